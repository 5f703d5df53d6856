"""Requests met: corpora, tasks, one material for two models, and what does not fit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from liptt_cli.errors import ConfigError, CorpusError
from liptt_cli.evaluation.compare import compare
from liptt_cli.evaluation.evaluate import Request, evaluate, preflight, read_material
from liptt_cli.evaluation.harness import TaskSettings


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def book(tmp_path: Path) -> str:
    path = tmp_path / "book.txt"
    path.write_text(
        "".join(f"Core {number} is read twice, and its signs are {number * 37} rows. " for number in range(40))
    )
    return str(path)


def test_corpora_and_tasks_are_measured_and_said_as_json(model: Any, tokenizer: Any, book: str) -> None:
    told = []
    settings = TaskSettings(limit=4, batch_size=4, seed=2)
    request = Request((book, "self"), ("stdlib_cloze",), window_tokens=32, windows=3, settings=settings)
    found = evaluate(model, tokenizer, request, progress=lambda title, done, total: told.append(title))
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["perplexity"][book]["corpus"] == book
    assert len(document["perplexity"]["self"]["window_nats"]) == 3
    assert document["tasks"]["stdlib_cloze"]["chance"] == 0.25
    assert document["tasks"]["stdlib_cloze"]["documents"] == 4
    assert document["settings"] == {"window_tokens": 32, "stride": 32, "windows": 3, "limit": 4, "seed": 2}
    assert len(document["corpora"][book]) == 64
    assert set(told) == {f"perplexity on {book}", "perplexity on self", "sampling from the model", "tasks"}


def test_a_second_model_on_the_same_material_is_paired(model: Any, tokenizer: Any, book: str) -> None:
    request = Request((book, "self"), window_tokens=32, windows=4)
    material = read_material(model, tokenizer, request)
    ours, theirs = (evaluate(model, tokenizer, request, material=material) for _ in range(2))
    assert all(found.difference == 0 and found.standard_error == 0 for found in compare(ours, theirs))


def test_text_sampled_from_a_model_costs_it_its_own_entropy(model: Any, tokenizer: Any) -> None:
    """Sampled text is likelier to its source than random tokens are."""
    request = Request(("self",), window_tokens=32, windows=16)
    nats = evaluate(model, tokenizer, request).perplexity["self"].nats
    noise = torch.randint(2, 300, (16, 32), generator=torch.Generator().manual_seed(0))
    material = dataclasses.replace(read_material(model, tokenizer, request), windows={"noise": noise})
    assert nats < evaluate(model, tokenizer, request, material=material).perplexity["noise"].nats - 0.1


def test_a_stride_scores_more_windows_of_the_same_text(model: Any, tokenizer: Any, book: str) -> None:
    whole = read_material(model, tokenizer, Request((book,), window_tokens=32)).windows[book]
    strided = read_material(model, tokenizer, Request((book,), window_tokens=32, stride=8)).windows[book]
    assert len(strided) == (whole.numel() - 32) // 8 + 1
    assert torch.equal(strided[4], whole[1])


def test_a_subset_of_windows_is_seeded_and_in_order(model: Any, tokenizer: Any, book: str) -> None:
    request = Request((book,), window_tokens=16, windows=5)
    whole = read_material(model, tokenizer, dataclasses.replace(request, windows=None)).windows[book].tolist()
    drawn = read_material(model, tokenizer, request).windows[book].tolist()
    assert drawn == read_material(model, tokenizer, request).windows[book].tolist()
    places = [whole.index(window) for window in drawn]
    assert places == sorted(places)
    assert len(drawn) == 5


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"window_tokens": 257}, "at most 256"),
        ({"window_tokens": 1}, "nothing to predict"),
        ({"stride": 33}, "between 1 and window_tokens, 32"),
        ({"stride": 8, "perplexity": ("self",)}, "do not overlap"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: Any, tokenizer: Any, book: str, changed: dict[str, Any], words: str
) -> None:
    request = dataclasses.replace(Request((book,), window_tokens=32), **changed)
    with pytest.raises(ConfigError, match=words):
        evaluate(model, tokenizer, request)


def test_a_short_corpus_is_refused_by_name(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short")
    request = Request(("short.txt",), window_tokens=32, settings=TaskSettings(near=tmp_path))
    with pytest.raises(CorpusError, match=r"short\.txt: \d+ tokens make 0 windows of 32"):
        evaluate(model, tokenizer, request)


def test_preflight_refuses_before_any_model_is_loaded(book: str) -> None:
    preflight(Request((book, "self", "stdlib"), ("stdlib_cloze", "arc_easy")))
    with pytest.raises(CorpusError, match="no such corpus"):
        preflight(Request(("absent.txt",)))
    with pytest.raises(ConfigError, match="no task file"):
        preflight(Request((), ("absent/task.yaml",)))
