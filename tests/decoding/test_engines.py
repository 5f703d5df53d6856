"""What is measured: both engines make the same tokens, say what they are, and the lean one falls back with a reason."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import MakeTinyModel
from liptt_cli.decoding.engines import Lean, Transformers, compare_logits, take_engine
from liptt_cli.models import hub

PROMPT = [5, 17, 200, 31]


def loaded(directory: Path) -> Any:
    return hub.load_model(hub.locate(str(directory)), dtype=torch.float32)


def greedy(engine: Lean | Transformers, tokens: int = 6) -> list[int]:
    made = [engine.prefill(PROMPT)]
    while len(made) < tokens:
        made.append(engine.step(made[-1]))
    return made


def test_both_engines_make_the_same_tokens_again_and_again(packed_llama: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LIPTT_KERNEL", "torch")
    model = loaded(packed_llama)
    engines = [take_engine(model, lean=lean, capacity_tokens=16) for lean in (True, False)]
    first, again = ([greedy(engine) for engine in engines] for _ in range(2))
    assert first[0] == first[1] == again[0] == again[1]
    assert [type(engine) for engine in engines] == [Lean, Transformers]


def test_both_read_the_same_bytes(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    lean, other = (take_engine(model, lean=lean, capacity_tokens=16) for lean in (True, False))
    greedy(other)
    for key in ("weight_bytes_per_token", "cache_bytes_per_token", "dtype"):
        assert lean.facts()[key] == other.facts()[key]
    embedding = model.get_input_embeddings().weight
    everything = sum(parameter.nbytes for parameter in model.parameters())
    assert lean.facts()["weight_bytes_per_token"] == everything - embedding.nbytes + embedding[0].nbytes


def test_a_tied_table_is_read_whole_as_the_head(make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    model = loaded(make_tiny_model("qwen3", tmp_path / "tied"))
    engine = take_engine(model, lean=True, capacity_tokens=4)
    assert engine.facts()["weight_bytes_per_token"] == sum(parameter.nbytes for parameter in model.parameters())


def test_what_the_loop_does_not_know_goes_through_transformers_which_says_why(
    make_tiny_model: MakeTinyModel, tmp_path: Path
) -> None:
    engine = take_engine(loaded(make_tiny_model("opt", tmp_path / "opt")), lean=True, capacity_tokens=16)
    greedy(engine)
    assert isinstance(engine, Transformers)
    assert "architecture 'opt'" in engine.facts()["why_not_lean"]
    assert engine.agreement(PROMPT, [1]) is None


def test_agreement_is_exact_on_the_torch_meaning(packed_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPTT_KERNEL", "torch")
    engine = take_engine(loaded(packed_llama), lean=True, capacity_tokens=16)
    told = engine.agreement(PROMPT, greedy(engine))
    assert told is not None
    assert told["agreeing"] == told["tokens"] == 6
    assert told["relative_difference"] < 1e-5


def test_a_difference_is_told() -> None:
    expected = torch.eye(3) * 2
    found = expected.clone()
    found[0, 1] += 0.5
    told = compare_logits(found, expected, [0, 1, 0])
    assert told["agreeing"] == 2
    assert told["largest_difference"] == 0.5
    assert told["relative_difference"] == pytest.approx(0.5 / 12**0.5)
