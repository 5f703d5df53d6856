"""Bad input: the exit status that the design gives it, one clear message, and a folder that is as it was before."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from end_to_end.refusing import START, liptt, refused

MakeTinyModel = Callable[..., Path]


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# The configuration


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scale_repair:", "scale_repiar:", [":13:3: binarize.scale_repiar", "scale_repair"]),
        ("windows: 4,", "windows: four,", [":5:", "calibration.windows", "four"]),
        ("method: small\n", "method: small\nseed: 1\nseed: 2\n", [":4:1: seed", "duplicate key", "line 3"]),
        ("steps: 5", "steps: -5", ["finetune.steps", "-5"]),
    ],
    ids=["unknown key", "wrong type", "duplicate key", "wrong value"],
)
def test_a_faulty_configuration(
    place: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: list[str]
) -> None:
    rewrite(place / "configs" / "small.yaml", old, new)
    said = refused(place, START, capsys, status=2)
    assert all(word in said for word in ("small.yaml", *words)), said


def test_no_such_configuration(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(place, ["compress", "--config", "configs/smal.yaml"], capsys, status=2)
    assert "configs/smal.yaml: no such file" in said


# The model


def truncate(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def corrupt(model: Path) -> None:
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[20:40] = b"\xff" * 20
    weights.write_bytes(data)


def spoil(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = torch.nan
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def lose_a_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("break_it", "status", "words"),
    [
        (shutil.rmtree, 3, ["no such directory"]),
        (lambda model: (model / "config.json").unlink(), 3, ["no config.json"]),
        (lambda model: (model / "model.safetensors").unlink(), 3, ["no weights"]),
        (truncate, 3, ["model.safetensors", "truncated or corrupt", "Fetch this file again"]),
        (corrupt, 3, ["model.safetensors", "truncated or corrupt", "Fetch this file again"]),
        (lose_a_tensor, 3, ["model.layers.1.mlp.up_proj.weight"]),
        (spoil, 5, ["model.layers.1.mlp.up_proj.weight", "holds 1 NaN or Inf"]),
    ],
    ids=["absent", "no config.json", "no weights", "truncated shard", "corrupt shard", "a tensor less", "NaN"],
)
def test_a_broken_model(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    break_it: Callable[[Path], object],
    status: int,
    words: list[str],
) -> None:
    break_it(place / "model")
    said = refused(place, START, capsys, status=status)
    assert all(word in said for word in words), said


def test_a_method_without_a_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(place, ["compress", "--config", "methods/sign"], capsys, status=2)
    assert "names no model" in said


# The dial and the shapes


@pytest.mark.parametrize("key", ["bits_per_weight", "target_size"])
def test_a_budget_that_cannot_be_met_names_the_smallest_that_can(
    place: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    too_little = {"bits_per_weight": "0.05", "target_size": "70000"}[key]
    settings = ("--set", "bits_per_weight=null", "--until", "decompose", "--set")
    said = refused(place, [*START, *settings, f"{key}={too_little}"], capsys, status=2)
    found = re.search(r"the smallest that can is ([\d.]*\d)", said)
    assert found is not None, said
    assert liptt(*START, *settings, f"{key}={found[1]}") == 0


def test_a_rank_beyond_the_budget_names_the_smallest_that_can(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--set", "decompose.factor.rank=16", "--until", "decompose", "--set")
    said = refused(place, [*START, *settings, "bits_per_weight=1.0"], capsys, status=2)
    found = re.search(r"the smallest that can is ([\d.]*\d)", said)
    assert found is not None, said
    assert liptt(*START, *settings, f"bits_per_weight={found[1]}") == 0


def test_a_linear_that_does_not_factor(
    place: Path, make_tiny_model: MakeTinyModel, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(place / "model")
    make_tiny_model("llama", place / "model", intermediate_size=37)
    layout = ("--set", "decompose.factor.layout=mpo")
    said = refused(place, [*START, *layout], capsys, status=2)
    assert "model.layers.0.mlp.down_proj: dimension 37 does not factor into 2 modes" in said
    assert "the nearest is" in said


# The text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["text.txt", "no text in it"]),
        ("  \n\n", ["text.txt", "no text in it"]),
        ("Too short.", ["text.txt", "windows of 16", "(64 tokens) are needed"]),
        (None, ["text.txt: no such corpus"]),
    ],
    ids=["empty", "blank", "too short", "absent"],
)
def test_a_poor_corpus(place: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: list[str]) -> None:
    (place / "text.txt").unlink()
    if text is not None:
        (place / "text.txt").write_text(text)
    said = refused(place, START, capsys, status=3)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("setting", "status", "words"),
    [
        ("evaluate={perplexity: [absent.txt], window_tokens: 64}", 3, "absent.txt: no such corpus"),
        ("calibration.window_tokens=300", 2, "calibration.window_tokens: 300 is more than the 256 positions"),
        ("evaluate={perplexity: [text.txt], window_tokens: 512}", 2, "evaluate.window_tokens: 512 is more than"),
    ],
)
def test_what_only_a_later_stage_needs_is_refused_before_any_work(
    place: Path, capsys: pytest.CaptureFixture[str], setting: str, status: int, words: str
) -> None:
    said = refused(place, [*START, "--set", setting], capsys, status=status)
    assert words in said
