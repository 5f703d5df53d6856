"""The exit status of every way to fail, and what is said about it."""

import errno
import inspect
import logging
import sys
from pathlib import Path

import pytest
import torch
import typer

from liptt_cli import errors
from liptt_cli.cli import screen
from liptt_cli.cli.boundary import Boundary, exit_status

_TABLE = {
    errors.LipttError: 1,
    errors.ConfigError: 2,
    errors.ShapeError: 2,
    errors.BudgetError: 2,
    errors.OtherRunError: 2,
    errors.InputError: 3,
    errors.ModelError: 3,
    errors.CorpusError: 3,
    errors.MissingExtra: 3,
    errors.ResourceError: 4,
    errors.RunLockedError: 4,
    errors.IntegrityError: 5,
    errors.DivergenceError: 5,
    errors.FormatVersionError: 5,
    errors.GateError: 6,
    errors.Interrupted: 130,
}


@pytest.fixture(autouse=True)
def _normal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(screen, "_level", screen.NORMAL)


def test_the_table_has_every_error():
    classes = {item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, errors.LipttError)}
    assert classes == set(_TABLE)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        *((kind("told"), status) for kind, status in _TABLE.items()),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 4),
        (torch.OutOfMemoryError("CUDA out of memory"), 4),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), 4),
        (OSError(errno.ENOSPC, "No space left on device"), 4),
        (OSError(errno.EFBIG, "File too large"), 4),
        (RuntimeError("I/O error: File too large (os error 27)"), 4),
        (OSError(errno.EACCES, "Permission denied"), 1),
        (KeyError("x"), 1),
        (RuntimeError("shapes"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_each_error_has_its_status(error: BaseException, status: int):
    assert exit_status(error) == status
    with pytest.raises(SystemExit) as ended, Boundary():
        raise error
    assert ended.value.code == status


def test_a_refusal_is_said_in_full_and_without_a_traceback(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit), Boundary():
        raise errors.ConfigError("one", errors.Fault("key", "two", "a.yaml", 1, 2))
    assert capsys.readouterr().err == "one\na.yaml:1:2: key: two\n"


def test_a_fault_of_ours_is_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit), Boundary():
        raise KeyError("first\nsecond")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "KeyError" in said
    assert "-v shows the traceback" in said


def test_the_traceback_goes_to_the_run_s_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    handler = logging.FileHandler(tmp_path / "log.txt")
    screen.LOGGER.addHandler(handler)
    try:
        with pytest.raises(SystemExit), Boundary():
            raise KeyError("x")
    finally:
        screen.LOGGER.removeHandler(handler)
        handler.close()
    assert "Traceback (most recent call last)" in (tmp_path / "log.txt").read_text()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(tmp_path / "log.txt") in said


def test_memory_that_ran_out_is_told_as_such(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit), Boundary():
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")
    assert capsys.readouterr().err == "memory or disk ran out: OutOfMemoryError: tried to allocate 2 GiB\n"


@pytest.mark.parametrize("error", [typer.Exit(3), typer.BadParameter("no"), SystemExit(7)])
def test_what_is_no_failure_of_a_command_passes(error: BaseException):
    with pytest.raises(type(error)) as passed, Boundary():
        raise error
    assert passed.value is error


def test_no_error_is_no_exit():
    with Boundary():
        sys.stdout.write("")
