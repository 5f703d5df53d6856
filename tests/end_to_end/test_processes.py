"""`liptt compress --num-processes 2` on the CPU: one writer, and the losses of one process with twice the batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = """\
version: 1
method: two-processes
model: {model}
bits_per_weight: 3.0
calibration: {{corpus: {corpus}, windows: 8, window_tokens: 16}}
decompose: {{factor: {{kind: tensor_train, start: random}}}}
binarize:
  codec: {{kind: binary, scale: [axes]}}
  solver: {{kind: admm, iterations: 3}}
finetune:
  steps: 4
  batch_windows: {batch}
  objectives: [{{kind: lipschitz, weight: 1.0, estimator: directional}}]  # touches no logits and one block a step
evaluate: {{lipschitz: false}}
"""


def compress(folder, *, model, batch, processes):
    """Run the command in a process of its own and return the fine-tune's facts."""
    corpus = folder / "corpus.txt"
    corpus.write_text("The quick brown fox jumps over the lazy dog. " * 200)
    config = folder / f"run-{processes}.yaml"
    config.write_text(RECIPE.format(model=model, corpus=corpus, batch=batch))
    command = [sys.executable, "-m", "liptt_cli", "compress", "--config", config, "--output", folder / f"{processes}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, command), "--num-processes", str(processes)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("binarize 1/") == 1, "only the first process does the work and speaks"
    return json.loads((folder / f"{processes}" / "report.json").read_text())["finetune"]


def test_two_processes_train_as_one_with_twice_the_batch(tiny_llama, tmp_path):
    alone = compress(tmp_path, model=tiny_llama, batch=4, processes=1)
    together = compress(tmp_path, model=tiny_llama, batch=2, processes=2)
    assert (alone["processes"], together["processes"]) == (1, 2)
    assert together["losses"] == pytest.approx(alone["losses"], abs=1e-4)
