"""The order of the stages, what is skipped, who does what, and how a run ends that does not end well."""

import logging
import signal
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from liptt_cli import pipeline
from liptt_cli.cli.screen import Progress
from liptt_cli.errors import IntegrityError, Interrupted, OtherRunError
from liptt_cli.menu.run import RunConfig
from liptt_cli.models.hub import Source
from liptt_cli.pipeline import compress
from liptt_cli.run_directory import STAGES, RunDirectory
from liptt_cli.stages.job import Job


class Processes(Accelerator):
    """Stands for Accelerate in one of several processes."""

    def __init__(self, *, main: bool = True) -> None:
        self.main = main
        self.waits = 0

    @property
    def is_main_process(self) -> bool:
        return self.main

    def wait_for_everyone(self) -> None:
        self.waits += 1


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the stages that ran, which do nothing here."""
    names: list[str] = []

    def stage(name: str) -> Any:
        def run(*_arguments: object) -> dict[str, Any]:
            names.append(name)
            return {"name": name}

        return run

    monkeypatch.setattr(pipeline, "_ALONE", {name: stage(name) for name in STAGES if name != "finetune"})
    monkeypatch.setattr(pipeline.finetune, "run", stage("finetune"))
    monkeypatch.setattr(pipeline.load, "refuse_other_model", stage("looked at the model"))
    monkeypatch.setattr(pipeline, "write_report", lambda run: {"report of": run.path.name})
    return names


@pytest.fixture
def job(tmp_path: Path) -> Job:
    source = Source(tmp_path, "model", None)
    return Job(RunConfig(method="sign"), RunDirectory(tmp_path, {}), source, None, Progress())


def test_all_stages_in_order_then_the_report(job: Job, done: list[str], tmp_path: Path):
    processes = Processes()
    assert compress(job, processes) == {"report of": tmp_path.name}
    assert done == list(STAGES)
    assert processes.waits == len(STAGES)
    for name in STAGES:
        facts = job.run.facts(name)
        assert facts["name"] == name
        assert facts["seconds"] >= 0
        assert facts["peak_bytes"] > 10**6


def test_whole_stages_are_skipped(job: Job, done: list[str]):
    for name in ("load", "decompose", "finetune"):
        job.run.seal(name, {})
    compress(job, Processes())
    assert done == ["looked at the model", "binarize", "evaluate", "export"]
    done.clear()
    assert compress(job, Processes()) is not None
    assert done == []


def test_until_stops_behind_a_stage_without_a_report(job: Job, done: list[str]):
    assert compress(job, Processes(), until="binarize") is None
    assert done == ["load", "decompose", "binarize"]


def test_another_process_only_takes_part_in_the_fine_tune(job: Job, done: list[str]):
    assert compress(job, Processes(main=False)) is None
    assert done == ["finetune"]
    assert not any(job.run.is_whole(name) for name in STAGES)


def test_another_model_is_refused_before_any_stage(job: Job, done: list[str], monkeypatch: pytest.MonkeyPatch):
    def refuse(_job: object) -> None:
        raise OtherRunError("not the model")

    monkeypatch.setattr(pipeline.load, "refuse_other_model", refuse)
    job.run.seal("load", {})
    with pytest.raises(OtherRunError):
        compress(job, Processes())
    assert done == []


def test_the_traceback_of_a_failure_is_in_the_log(job: Job, done: list[str], monkeypatch: pytest.MonkeyPatch):
    def fail(_job: object) -> dict[str, Any]:
        raise IntegrityError("a NaN")

    monkeypatch.setitem(pipeline._ALONE, "binarize", fail)
    with pytest.raises(IntegrityError) as failed:
        compress(job, Processes())
    log = job.run.path / "log.txt"
    assert "Traceback" in log.read_text() and "a NaN" in log.read_text()
    assert failed.value.__notes__ == [f"traceback in {log}"]
    assert not any(isinstance(handler, logging.FileHandler) for handler in pipeline.LOGGER.handlers)
    assert [name for name in STAGES if job.run.is_whole(name)] == ["load", "decompose"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_the_command_that_goes_on(
    job: Job, done: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
):
    before = signal.getsignal(number)

    def interrupted(_job: object) -> dict[str, Any]:
        signal.raise_signal(number)
        return {}

    monkeypatch.setitem(pipeline._ALONE, "evaluate", interrupted)
    with pytest.raises(Interrupted, match=f"Go on: liptt compress --resume {job.run.path}"):
        compress(job, Processes())
    assert signal.getsignal(number) is before
    assert done == ["load", "decompose", "binarize", "finetune"]
