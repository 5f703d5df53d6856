"""`liptt compress`: its options, what it prints, and where the run goes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from liptt_cli.cli.main import main
from liptt_cli.config import configs_folder

SIGN = """\
version: 1
method: sign
model: model
calibration: {corpus: text.txt, windows: 2, window_tokens: 16}
evaluate: {perplexity: [], lipschitz: false}
"""


@pytest.fixture
def place(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a text and a configuration; the working directory of the test."""
    shutil.copytree(tiny_llama, tmp_path / "model")
    (tmp_path / "text.txt").write_text("A block is read, its linears are fitted, and it is written out again. " * 9)
    (tmp_path / "small.yaml").write_text(SIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return tmp_path


def liptt(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_a_run_prints_its_report_and_tells_what_next(place: Path, capsys: pytest.CaptureFixture[str]):
    assert liptt("compress", "--config", "small.yaml") == 0
    said = capsys.readouterr()
    run = Path("runs") / "small"
    assert said.out == (run / "report.md").read_text() + "\n"
    assert "load 3/3 all weights are finite" in said.err
    assert "binarize 14/14 model.layers.1." in said.err
    assert f'Packed model: {run}/model   try: liptt generate {run} "Once upon a time"' in said.err
    assert (run / "config.source.yaml").read_text() == SIGN
    resolved = yaml.safe_load((run / "config.resolved.yaml").read_text())
    assert resolved["model"] == str(place / "model")
    assert resolved["calibration"]["corpus"] == str(place / "text.txt")


def test_json_is_one_document_and_quiet_is_quiet(place: Path, capsys: pytest.CaptureFixture[str]):
    assert liptt("-q", "compress", "--config", "small.yaml", "--output", "here", "--seed", 4, "--json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    report = json.loads(said.out)
    assert report == json.loads(Path("here/report.json").read_text())
    assert len(report["linears"]) == 14
    assert json.loads(Path("here/manifest.json").read_text())["config"]["seed"] == 4


def test_until_tells_how_to_go_on(place: Path, capsys: pytest.CaptureFixture[str]):
    assert liptt("-q", "compress", "--config", "small.yaml", "--output", "here", "--until", "decompose") == 0
    assert "liptt compress --resume here" in capsys.readouterr().out
    assert not Path("here/03-binarize").exists()
    assert liptt("-q", "compress", "--resume", "here", "--until", "load", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"run": "here", "report": None}


def test_every_recipe_takes_the_shipped_model_by_its_name(place: Path):
    text = "calibration={corpus: text.txt, windows: 2, window_tokens: 16}"
    keys = ("model=reference", text, "evaluate={perplexity: [], window_tokens: 16}")
    given = [word for key in keys for word in ("--set", key)]
    assert liptt("-q", "compress", "--config", "methods/sign", *given, "--output", "here", "--until", "load") == 0
    resolved = yaml.safe_load(Path("here/config.resolved.yaml").read_text())
    assert resolved["model"] == str(configs_folder() / "reference")


def test_dry_run_prints_the_plan_and_makes_nothing(place: Path, capsys: pytest.CaptureFixture[str]):
    before = sorted(place.rglob("*"))
    assert liptt("compress", "--config", "small.yaml", "--dry-run", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["linears"]) == 14
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--config is needed"),
        (["--output", "x"], "--config is needed"),
        (["--resume", "x", "--set", "seed=1"], "--config is needed"),
        (["--resume", "x", "--output", "y"], "leave --output out"),
        (["--config", "small.yaml", "--until", "finish"], "no such stage"),
        (["--config", "small.yaml", "--num-processes", "0"], "--num-processes"),
        (["--config", "small.yaml", "--set", "sead=1"], "seed"),
    ],
)
def test_a_wrong_command_line_ends_in_2(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
):
    before = sorted(place.rglob("*"))
    assert liptt("compress", *arguments) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words in said
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["export.to=[gguf]"], 2, "export.to: gguf cannot hold the compressed linears exactly"),
        (["export.to=[gguf]", "binarize.codec.scale=[group]"], 3, "no tokenizer.json"),
    ],
)
def test_an_export_that_cannot_be_is_refused_before_anything_is_read(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
):
    (place / "model" / "tokenizer.json").unlink()
    before = sorted(place.rglob("*"))
    sets = [part for word in words for part in ("--set", word)]
    assert liptt("compress", "--config", "small.yaml", *sets) == status
    assert said in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


def test_more_processes_are_the_same_command_under_the_launcher(place: Path, monkeypatch: pytest.MonkeyPatch):
    launched: list[list[str]] = []

    def run(command: list[str], **_options: Any) -> Any:
        launched.append(command)
        return subprocess.CompletedProcess(command, 5)

    arguments = ["compress", "--config", "small.yaml", "--num-processes", "2"]
    monkeypatch.setattr(sys, "argv", ["liptt", *arguments])
    monkeypatch.setattr(subprocess, "run", run)
    assert liptt(*arguments) == 5
    assert launched[0][0] == sys.executable
    assert "--nproc-per-node=2" in launched[0]
    assert launched[0][-len(arguments) - 2 :] == ["--module", "liptt_cli", *arguments]
    assert not (place / "runs").exists()


def test_a_fault_of_ours_keeps_the_run_and_names_its_log(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(_job: object) -> None:
        raise PermissionError(13, "Permission denied")

    from liptt_cli import pipeline

    monkeypatch.setitem(pipeline._ALONE, "load", broken)
    assert liptt("-q", "compress", "--config", "small.yaml", "--output", "here") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "traceback in here/log.txt" in said
    assert "Traceback" in Path("here/log.txt").read_text()
