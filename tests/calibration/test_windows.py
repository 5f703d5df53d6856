"""Windows of tokens: cut, drawn, sampled from a model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from liptt_cli.calibration.corpora import Corpus
from liptt_cli.calibration.windows import Sampling, corpus_windows, sampled_from, token_windows
from liptt_cli.errors import CorpusError, IntegrityError

BEGIN, END = 0, 1


class Letters:
    """A tokenizer of one token a letter, with a beginning."""

    bos_token_id: int | None = BEGIN
    eos_token_id: int | None = END

    def __call__(self, texts: list[str], verbose: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[BEGIN, *(ord(letter) for letter in text)] for text in texts]}


class Alphabet(nn.Module):
    """A model without a cache after which the next token is the last one plus one, and END after 5."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, input_ids: Tensor) -> Any:
        following = torch.where(input_ids == 5, END, torch.where(input_ids == BEGIN, 2, input_ids + 1))
        return SimpleNamespace(logits=nn.functional.one_hot(following, 8) * 1e4 + self.anchor)


def test_evaluation_takes_all_full_windows_in_order() -> None:
    windows = token_windows(["abc", "de"], Letters(), window_tokens=3, windows=None, seed=0)
    assert windows.tolist() == [[BEGIN, ord("a"), ord("b")], [ord("c"), BEGIN, ord("d")]]


def test_calibration_draws_distinct_windows_by_seed() -> None:
    documents = ["abcdefgh" * 4, "ijklmnop" * 4]
    draws = [token_windows(documents, Letters(), window_tokens=5, windows=4, seed=seed) for seed in (1, 1, 2)]
    assert draws[0].shape == (4, 5)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_drawing_all_windows_is_a_permutation_of_them() -> None:
    text = "".join(chr(100 + i) for i in range(30))
    every = token_windows([text], Letters(), window_tokens=5, windows=None, seed=0)
    drawn = token_windows([text], Letters(), window_tokens=5, windows=6, seed=3)
    assert sorted(drawn.tolist()) == sorted(every.tolist())
    assert drawn.tolist() != every.tolist()


def test_a_short_corpus_tells_what_there_is_and_what_is_needed() -> None:
    with pytest.raises(CorpusError, match=r"book: 11 tokens make 2 windows of 4, but 3 \(12 tokens\).*at most 3"):
        corpus_windows(Corpus("book", ["a" * 10], ""), Letters(), window_tokens=4, windows=3, seed=0)
    with pytest.raises(CorpusError, match="0 tokens"):
        token_windows([], Letters(), window_tokens=4, windows=None, seed=0)


def test_sampling_starts_at_the_beginning_and_starts_again_after_an_end() -> None:
    windows = sampled_from(Alphabet(), Letters(), Sampling(windows=3, window_tokens=9, seed=0, batch_windows=2))
    assert windows.tolist() == [[BEGIN, 2, 3, 4, 5, END, BEGIN, 2, 3]] * 3


def test_sampling_tells_progress_and_keeps_the_mode() -> None:
    model, told = Alphabet().train(), []
    sampling = Sampling(windows=3, window_tokens=2, seed=0, batch_windows=2)
    sampled_from(model, Letters(), sampling, lambda *step: told.append(step))
    assert told == [(2, 3), (3, 3)]
    assert model.training


def test_sampling_with_the_cache_follows_the_models_own_chances(tiny_llama: Path) -> None:
    """The same seed draws the same text as a loop without a cache."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama)
    found = sampled_from(model, tokenizer, Sampling(windows=4, window_tokens=12, seed=5))
    generator = torch.Generator().manual_seed(5)
    tokens = torch.full((4, 1), tokenizer.bos_token_id)
    while tokens.shape[1] < 12:
        with torch.no_grad():
            drawn = torch.multinomial(model(tokens).logits[:, -1].softmax(-1), 1, generator=generator)
        tokens = torch.cat([tokens, torch.where(tokens[:, -1:] == tokenizer.eos_token_id, 0, drawn)], dim=1)
    assert torch.equal(found, tokens)


def test_sampling_needs_a_token_to_start_from_and_finite_logits() -> None:
    nameless = Letters()
    nameless.bos_token_id = nameless.eos_token_id = None
    with pytest.raises(CorpusError, match="no beginning"):
        sampled_from(Alphabet(), nameless, Sampling(1, 4, 0))
    broken = Alphabet()
    nn.init.constant_(broken.anchor, float("nan"))
    with pytest.raises(IntegrityError, match="not finite"):
        sampled_from(broken, Letters(), Sampling(1, 4, 0))
