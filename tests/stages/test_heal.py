"""The healing before binarize: float trains that fit better after it, taken by the walk, and refused where none are."""

from pathlib import Path

import pytest
import torch

from liptt_cli.errors import ConfigError
from liptt_cli.stages.heal import healed_weight
from running import finish, make_job, reopened, short

HEAL = ("decompose.heal.steps=12", "decompose.heal.learning_rate.weights=0.003", "bits_per_weight=1.5")


def test_healing_lowers_the_loss_and_is_what_gets_binarised(tiny_llama: Path, tmp_path: Path):
    job = make_job(tiny_llama, "liptt-multistep", *short("liptt-multistep"), *HEAL, folder=tmp_path / "run")
    finish(job, until="decompose")
    found = job.run.facts("decompose")["healed"]
    assert found["steps"] == 12 and found["last"] < found["first"]
    name = job.structure.sites[0].name
    healed = healed_weight(job, name)
    assert healed is not None
    (rank,) = job.forms[name].ranks  # type: ignore[attr-defined]
    assert int(torch.linalg.matrix_rank(healed)) <= rank < min(healed.shape)
    finish(reopened(job), until="binarize")
    errors = {name: fact["error"] for name, fact in job.run.facts("binarize")["linears"].items()}
    alone = make_job(tiny_llama, "liptt-multistep", *short("liptt-multistep"), *HEAL[2:], folder=tmp_path / "alone")
    finish(alone, until="binarize")
    assert errors != {name: fact["error"] for name, fact in alone.run.facts("binarize")["linears"].items()}


def test_without_it_nothing_is_healed(tiny_llama: Path, tmp_path: Path):
    job = make_job(tiny_llama, "sign", *short("sign"), folder=tmp_path / "run")
    finish(job, until="decompose")
    assert job.run.facts("decompose")["healed"] == {}
    assert healed_weight(job, job.structure.sites[0].name) is None


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("sign", "decompose.heal={steps: 1, objectives: [{kind: teacher_nats}]}", "in a tensor_train only"),
        ("liptt-multistep", "decompose.heal.train=[weights, norms]", r"is not \[weights\]"),
    ],
)
def test_what_cannot_be_healed_is_refused(tiny_llama: Path, tmp_path: Path, method: str, override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        make_job(tiny_llama, method, override, folder=tmp_path / "run")
