"""Bad input that lies in run directories and packed models: taken, locked, of another configuration, newer, flipped."""

import json
import os
import shutil
from pathlib import Path

import pytest

from end_to_end.refusing import START, liptt, refused
from liptt_cli.run_directory import reopen


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


# The run directory


def test_a_run_of_another_configuration(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert liptt(*START, "--until", "load") == 0
    changes = ("--set", "bits_per_weight=2", "--set", "binarize.solver.iterations=9")
    said = refused(place, [*START, *changes], capsys, status=2)
    assert "runs/first was made by another configuration" in said
    assert "bits_per_weight: 3.0, 2.0" in said
    assert "binarize.solver.iterations: 2, 9" in said
    assert said.count(": ") == 3
    said = refused(place, START, capsys, status=2)
    assert "liptt compress --resume runs/first" in said


@pytest.mark.parametrize("options", [START, ("compress", "--resume", "runs/first")], ids=["start", "resume"])
def test_a_second_process_on_the_same_run(
    place: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    assert liptt(*START, "--until", "load") == 0
    run = reopen(place / "runs" / "first")
    try:
        said = refused(place, options, capsys, status=4)
    finally:
        run.release()
    assert f"runs/first: process {os.getpid()} on " in said
    assert "works in this run directory" in said


@pytest.mark.parametrize("output", ["text.txt", "configs", "text.txt/run"])
def test_a_place_that_is_taken(place: Path, capsys: pytest.CaptureFixture[str], output: str) -> None:
    said = refused(place, [*START[:-1], output], capsys, status=2)
    assert output in said
    assert "--output" in said


def test_nothing_to_resume(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(place, ["compress", "--resume", "model"], capsys, status=3)
    assert "model is not a run directory" in said


# The packed model


def test_a_packed_model_of_a_newer_format(place: Path, packed_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(packed_llama, place / "packed")
    for name, inside in (("liptt.json", ()), ("config.json", ("quantization_config",))):
        path = place / "packed" / name
        data = found = json.loads(path.read_text())
        for key in inside:
            found = found[key]
        found["format_version"] = 9
        path.write_text(json.dumps(data))
    for command in (
        ["verify", "packed"],
        ["generate", "packed", "Once"],
        ["export", "packed", "--to", "hf", "--output", "out"],
    ):
        said = refused(place, command, capsys, status=5)
        assert "format_version is 9" in said


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "liptt.json"])
def test_a_flipped_byte(place: Path, packed_llama: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    shutil.copytree(packed_llama, place / "packed")
    data = bytearray((place / "packed" / file).read_bytes())
    data[len(data) // 2] ^= 1
    (place / "packed" / file).write_bytes(data)
    said = refused(place, ["verify", "packed"], capsys, status=5)
    assert file in said
