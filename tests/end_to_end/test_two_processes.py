"""Two processes train as one with twice the batch and nothing recomputed; one that is killed can be resumed."""

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from liptt_cli.tuning_loop import Course

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("two_processes.py")


def launch(directory, folder, *, death=-1):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/cpu_2.yaml"]
    command += ["--main_process_port", "0", PROGRAM, directory, folder, death]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_two_processes_train_as_one_with_twice_the_batch_and_survive_a_kill(tiny_llama, tmp_path):
    killed = launch(tiny_llama, tmp_path, death=5)
    assert killed.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"], killed.stderr
    resumed = launch(tiny_llama, tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    found = json.loads((tmp_path / "history.json").read_text())
    assert found["processes"] == 2
    spec = util.spec_from_file_location("two_processes", PROGRAM)
    program = util.module_from_spec(spec)
    spec.loader.exec_module(program)
    options = program.OPTIONS.model_copy(update={"batch_windows": 2 * program.OPTIONS.batch_windows})
    alone = program.finetune(tiny_llama, Course(options, program.objectives(), 0))
    assert found["losses"] == pytest.approx([record.loss for record in alone.records], abs=1e-4)
    assert found["flip_share"] == pytest.approx(alone.flip_share, abs=1e-3)
    assert 0 < alone.flip_share < 0.2
