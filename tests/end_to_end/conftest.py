"""A place with a model, a text and a small configuration, and a way to run `liptt` in it that bears to be killed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from end_to_end.forked_runs import Forks

SMALL = """\
version: 1
method: small
model: ../model
bits_per_weight: 3.0
calibration: {corpus: text.txt, windows: 4, window_tokens: 16, batch_windows: 4}
decompose: {factor: {kind: tensor_train, start: random, layout: split, cores: 2, rank: auto}}
binarize:
  inputs: prefix
  metric: {cols: diagonal}
  codec: {kind: binary, scale: [axes]}
  solver: {kind: admm, iterations: 2}
  refit: true
  scale_repair: true
  codes: {steps: 2, batch_windows: 2, objectives: [{kind: hidden_square}]}
finetune:
  steps: 5
  batch_windows: 2
  checkpoint_steps: 2
  train: [codes, scales, norms]
  objectives: [{kind: teacher_nats}, {kind: lipschitz, weight: 0.1}]
evaluate: {lipschitz: false}
"""


@pytest.fixture(scope="session")
def make_place(tiny_llama: Path) -> Callable[[Path], Path]:
    """Return `make(folder) -> folder`, which lays `model/`, `text.txt` and `configs/small.yaml` into a folder."""

    def make(folder: Path) -> Path:
        shutil.copytree(tiny_llama, folder / "model")
        lines = (
            f"The {k} times {k + 3} is {k * (k + 3)}, and a block of {k} weights is read once." for k in range(100)
        )
        (folder / "text.txt").write_text("\n".join(lines))
        (folder / "configs").mkdir()
        (folder / "configs" / "small.yaml").write_text(SMALL)
        return folder

    return make


@pytest.fixture
def place(make_place: Callable[[Path], Path], tmp_path: Path) -> Path:
    """Such a folder."""
    return make_place(tmp_path)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The process that forks a run for each request."""
    process = Forks()
    yield process
    process.close()
