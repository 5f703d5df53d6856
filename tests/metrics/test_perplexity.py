"""Perplexity against a direct computation, and against what a known source must cost."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from liptt_cli.calibration.corpora import read_corpus
from liptt_cli.errors import DivergenceError
from liptt_cli.metrics.perplexity import Perplexity, measure_perplexity, overlapping


class Uniform(nn.Module):
    """A model to which all tokens are equally likely."""

    def __init__(self, vocabulary: int, level: float = 0.0) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.full((vocabulary,), level))

    def forward(self, input_ids: Tensor) -> Any:
        return SimpleNamespace(logits=self.level.expand(*input_ids.shape, -1))


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(2, 300, (7, 12), generator=torch.Generator().manual_seed(0))


def direct(model: Any, window: Tensor, *, scored: int) -> float:
    """Minus the mean log-probability of a window's last tokens, one forward pass a token."""
    costs = []
    for place in range(len(window) - scored, len(window)):
        with torch.no_grad():
            logits = model(window[None, :place]).logits[0, -1]
        costs.append(-logits.double().log_softmax(-1)[window[place]].item())
    return sum(costs) / scored


@pytest.mark.parametrize("family", ["llama", "opt", "qwen3"])
def test_nats_equal_a_direct_computation(family: str, tokens: Tensor, tmp_path: Path, make_tiny_model: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(family, tmp_path)).eval()
    found = measure_perplexity(model, tokens[:3], batch_windows=2)
    expected = [direct(model, window, scored=11) for window in tokens[:3]]
    assert found.window_nats == pytest.approx(expected, abs=2e-6)
    assert found.nats == pytest.approx(sum(expected) / 3, abs=2e-6)
    assert found.perplexity == pytest.approx(math.exp(found.nats))
    assert (found.tokens, found.window_tokens, found.stride) == (33, 12, 12)


def test_a_class_without_a_cache_is_measured_too(tokens: Tensor, tmp_path: Path, make_tiny_model: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model("trellis", tmp_path)).eval()
    with torch.no_grad():
        logits = model(tokens).logits[:, :-1]
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert measure_perplexity(model, tokens).nats == pytest.approx(expected.item(), abs=1e-5)


def test_a_stride_scores_only_the_last_tokens(tokens: Tensor, tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    windows = overlapping(tokens, stride=4)
    found = measure_perplexity(model, windows, stride=4)
    assert found.tokens == 4 * len(windows)
    assert found.window_nats[1] == pytest.approx(direct(model, windows[1], scored=4), abs=2e-6)


def test_overlapping_windows_score_each_later_token_once() -> None:
    windows = overlapping(torch.arange(20).view(5, 4), stride=2)
    assert windows[:, -2:].flatten().tolist() == list(range(2, 20))


def test_a_uniform_model_costs_the_log_of_its_vocabulary(tokens: Tensor) -> None:
    found = measure_perplexity(Uniform(300), tokens)
    assert found.perplexity == pytest.approx(300, rel=1e-5)
    assert found.standard_error == pytest.approx(0, abs=1e-6)


def test_the_batch_changes_nothing_and_progress_is_told(tokens: Tensor, tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).train()
    told: list[tuple[int, int]] = []
    one = measure_perplexity(model, tokens, batch_windows=1)
    many = measure_perplexity(model, tokens, batch_windows=3, progress=lambda done, total: told.append((done, total)))
    assert one.window_nats == pytest.approx(many.window_nats, abs=1e-5)
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert model.training


def test_standard_error_is_over_windows(tokens: Tensor, tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    found = measure_perplexity(model, tokens)
    spread = torch.tensor(found.window_nats, dtype=torch.float64).std().item()
    assert found.standard_error == pytest.approx(spread / math.sqrt(7))
    assert measure_perplexity(model, tokens[:1]).standard_error is None


def test_nats_that_are_not_finite_are_refused(tokens: Tensor) -> None:
    with pytest.raises(DivergenceError, match="window 0 of 7"):
        measure_perplexity(Uniform(300, level=float("nan")), tokens)


def test_json_has_no_infinity() -> None:
    document = Perplexity("x", 1, 800.0, None, 2, 2, [800.0]).to_json()
    assert document["perplexity"] is None
    assert document["nats"] == 800.0


@pytest.mark.outside
@pytest.mark.parametrize(
    ("file", "nats"), [("tinystories/sample.txt.gz", 1.733), ("wikitext2/wiki.test.raw.gz", 4.926)]
)
def test_the_really_pretrained_model_costs_what_its_card_says(shared_data: Path, file: str, nats: float) -> None:
    """The card measured the first 30,149 tokens in windows of 512, each begun by `<s>`."""
    place = shared_data / "models" / "stories260K" / "hf"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    text = read_corpus(str(shared_data / "data" / file), side="evaluation").documents[0]
    begin, *tokens = tokenizer(text[:200_000], verbose=False)["input_ids"][:30_150]
    windows = torch.tensor(tokens).view(59, 511)
    windows = torch.cat([torch.full((59, 1), begin), windows], dim=1)
    assert measure_perplexity(model, windows).nats == pytest.approx(nats, abs=0.002)
