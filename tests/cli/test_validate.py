"""`liptt validate`: what it prints for good and bad files, and its exit status."""

import json
from pathlib import Path

import pytest
import typer

from liptt_cli.cli.validate import validate_command

_GOOD = "method: mine\nbinarize: {codec: {kind: binary}}\n"
_BAD = "method: mine\nbinarize: {codec: {kind: binry}}\nsed: 1\n"


def _write(tmp_path: Path, text: str, name: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_good_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good = _write(tmp_path, _GOOD, "good.yaml")
    validate_command([good])
    assert capsys.readouterr() == (f"{good}: ok\n", "")


def test_faults_of_all_files_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good, bad = _write(tmp_path, _GOOD, "good.yaml"), _write(tmp_path, _BAD, "bad.yaml")
    with pytest.raises(typer.Exit) as ended:
        validate_command([bad, good, "absent"])
    assert ended.value.exit_code == 2
    printed = capsys.readouterr()
    assert printed.out == f"{good}: ok\n"
    lines = printed.err.splitlines()
    assert lines[0].startswith(f"{bad}:2:26: binarize.codec.kind: no kind 'binry'. Did you mean 'binary'?")
    assert lines[1] == f"{bad}:3:1: sed: unknown key. Did you mean 'seed'?"
    assert lines[2].startswith("absent: no such file")


def test_json_has_the_faults_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bad = _write(tmp_path, _BAD, "bad.yaml")
    with pytest.raises(typer.Exit):
        validate_command([bad], as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    (listed,) = document["files"]
    assert (listed["file"], listed["ok"]) == (bad, False)
    assert [(fault["line"], fault["key"]) for fault in listed["faults"]] == [(2, "binarize.codec.kind"), (3, "sed")]


def test_overrides_are_checked_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good = _write(tmp_path, _GOOD, "good.yaml")
    with pytest.raises(typer.Exit):
        validate_command([good], overrides=["seed=-1"])
    assert "--set seed=-1: seed: expected a number of at least 0, not -1" in capsys.readouterr().err


def test_an_export_that_no_model_makes_exact_is_a_fault_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = _write(tmp_path, _GOOD + "export: {to: [liptt, gguf]}\n", "gguf.yaml")
    with pytest.raises(typer.Exit):
        validate_command([file])
    said = capsys.readouterr().err
    assert said.startswith(
        f"{file}: export.to: gguf cannot hold the compressed linears exactly: a scale for each column"
    )
    validate_command([file], overrides=["binarize.codec.scale=[group]"])
    validate_command([file], overrides=["export.allow_densify=true"])
