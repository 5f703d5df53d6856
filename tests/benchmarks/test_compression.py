"""The benchmark of compression: a toy's shape goes through, and what is extrapolated says so."""

import json
from pathlib import Path

import compression
import pytest


def test_a_toy_goes_through_and_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--tiny", "--threads", "1", "--results", str(tmp_path), "--methods", "gptq", "no-such-method"]
    assert compression.main(arguments) == 0
    swept, missing = json.loads((tmp_path / "compression.json").read_text())["rows"]
    assert swept["bits_per_weight"] == 4.25
    assert 0 < swept["error"] < swept["plain_error"] < 0.1
    assert swept["seconds"] > 0
    assert 0 < swept["python_share"] < 1
    assert swept["extrapolated"] is swept["step_seconds"] is None
    assert "no-such-method" in missing["failed"]
    assert "gptq | 64 x 128 | 4.250 | " in capsys.readouterr().out


def test_iterations_are_extrapolated_and_a_step_is_trained():
    row = compression.measured("liptt-onestep", ["bits_per_weight=1.5"], (64, 128), 1)
    assert row["extrapolated"] > 1
    assert row["step_seconds"] > 0
