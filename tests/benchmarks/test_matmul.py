"""The benchmark of one linear: a toy's shape through, and what counts as reached."""

import json
from pathlib import Path

import matmul
import pytest
from targets import Target

from liptt_cli.kernels.dispatch import TORCH, chosen
from liptt_cli.metrics.speed import MemoryFloor, Spread


def test_a_toy_goes_through_and_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr(matmul, "ROTATED_BYTES", 10**6)
    monkeypatch.setattr(matmul, "MemoryFloor", lambda: MemoryFloor(2**20))
    arguments = ["--tiny", "--rounds", "1", "--calls", "1", "--peers", "--results", str(tmp_path)]
    if chosen().name == TORCH:
        with pytest.raises(SystemExit, match="no kernel runs here"):
            matmul.main(arguments)
        return
    assert matmul.main(arguments) == 0
    found = json.loads((tmp_path / "matmul.json").read_text())
    assert [shape["shape"] for shape in found["shapes"]] == ["256 x 256, batch 1", "256 x 256, batch 8"]
    errors = [each["error"] for shape in found["shapes"] for each in shape["contestants"] if each["error"]]
    assert len(errors) == 6 and max(errors) < 2.5e-3
    assert {row["verdict"] for row in found["table"]} <= {"aim", "must", "missed"}
    assert "two threads beside a busy process" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "verdict"), [(2.0, "must"), (3.0, "aim"), (1.0, "missed")])
def test_a_number_is_an_aim_reached_a_must_or_missed(value: float, verdict: str):
    assert Target("", Spread.of([value]), 2, 3).verdict == verdict


def test_an_error_is_better_the_smaller():
    verdicts = [Target("", Spread.of([each]), 2.5e-3, 1.6e-3, True).verdict for each in (1e-3, 2e-3, 3e-3)]
    assert verdicts == ["aim", "must", "missed"]
