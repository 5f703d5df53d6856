"""Runs that must be refused: a status of the design, one clear message, and a folder that is as it was before."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from end_to_end.forked_runs import listing
from liptt_cli.cli.main import main

START = ("compress", "--config", "configs/small.yaml", "--output", "runs/first")


def liptt(*arguments: object) -> int:
    """Run a command quietly and return its exit status."""
    with pytest.raises(SystemExit) as end:
        main(["-q", *map(str, arguments)])
    return int(end.value.code or 0)


def refused(place: Path, arguments: Sequence[object], capsys: pytest.CaptureFixture[str], *, status: int) -> str:
    """Run what must be refused with a status, and return the message."""
    before = listing(place)
    capsys.readouterr()
    found = liptt(*arguments)
    said = capsys.readouterr()
    assert found == status, said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert listing(place) == before
    return said.err
