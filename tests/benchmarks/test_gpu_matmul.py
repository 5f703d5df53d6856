"""The benchmark of the CUDA kernels runs without a GPU, on tiny sizes and without speeds, and its shares are shares."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gpu_matmul import Floors, _speed

ROOT = Path(__file__).parents[2]


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, ROOT / "benchmarks" / "gpu_matmul.py", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_call_at_the_floor_has_all_of_it() -> None:
    guise = SimpleNamespace(bytes=4_000_000, instructions=33e6)
    found = _speed(guise, [3e-6, 1e-6, 2e-6], Floors(bytes_per_second=4e12, instructions_per_second=33e12))
    assert (found["seconds"], found["fastest"], found["slowest"]) == (2e-6, 1e-6, 3e-6)
    assert found["share_of_byte_floor"] == pytest.approx(0.5)
    assert found["share_of_instruction_floor"] == pytest.approx(0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do() -> None:
    ended = run()
    assert ended.returncode == 1
    assert "--quick --interpret" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.triton
@pytest.mark.slow
def test_it_runs_in_the_interpreter_and_tells_no_speeds(tmp_path: Path) -> None:
    ended = run("--quick", "--interpret", "--output", tmp_path / "gpu.json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert document["machine"]["device"] == "interpreter"
    assert {row["tokens"] for row in document["rows"]} == {1, 9}
    assert len(document["rows"]) == len(ended.stdout.splitlines()) == 10
    assert not any("seconds" in row for row in document["rows"])
    assert all(row["error"] < 2e-2 for row in document["rows"])
