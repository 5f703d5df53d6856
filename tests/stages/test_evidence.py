"""Evidence of a real run: what is measured, that a killed measurement goes on, and that a plan by it is the run's."""

import atexit
import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from liptt_cli.calibration.walk import Itinerary, walk
from liptt_cli.cli.plan import plan_command
from liptt_cli.cli.screen import Progress
from liptt_cli.forms.base import blob_bytes
from liptt_cli.planning.evidence import FILE, read_evidence
from liptt_cli.stages import evidence as stage
from liptt_cli.stages.job import Job
from running import finish, make_job, short

AT = (
    "decompose.allocator={kind: knapsack, at_unit: bits, at_bits: [1.6, 2.6], iterations: 1, windows: 2, weight_by: %s}"
)
KINDS = ("none", "output", "gradient", "divergence")


def words(kind: str, *more: str) -> tuple[str, ...]:
    return short("liptt-onestep", "bits_per_weight=2.4", "finetune.steps=0", AT % kind, *more)


@cache
def decomposed(model: Path, kind: str) -> Job:
    """Return a run that stands behind its evidence; made once for each kind of weight."""
    job = make_job(model, "liptt-onestep", *words(kind), folder=Path(tempfile.mkdtemp(prefix="liptt-tests-")) / "run")
    atexit.register(shutil.rmtree, job.run.path.parent, ignore_errors=True)
    finish(job, until="decompose")
    return job


class Told(Progress):
    """Keeps what is told, and stops the work at a message."""

    def __init__(self, stop_at: str = "nothing") -> None:
        self.lines: list[str] = []
        self.totals: dict[str, int] = {}
        self._stop_at = stop_at

    def begin(self, title: str, *, total: int) -> None:
        self.totals[title] = total

    def advance(self, message: str = "") -> None:
        self.lines.append(message)
        if self._stop_at in message:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
def test_every_linear_has_a_curve_and_a_weight_and_the_plan_by_it_is_the_run_s(
    kind: str, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
):
    job = decomposed(tiny_llama, kind)
    evidence = read_evidence(job.run.path)
    assert list(evidence.linears) == [site.name for site in job.structure.sites]
    for linear in evidence.linears.values():
        errors = [point.error for point in linear.points]
        assert len(errors) == 2 and 0 < errors[1] < errors[0] < 1
        assert linear.weight > 0
    overrides = [f"model={tiny_llama}", f"calibration.corpus={job.run.path.parent / 'text.txt'}", *words(kind)]
    plan_command("methods/liptt-onestep", overrides=overrides, evidence=job.run.path, as_json=True)
    document = json.loads(capsys.readouterr().out)
    found = {row["linear"]: (row["bytes"], row["ranks"]) for row in document["linears"]}
    assert found == {name: (blob_bytes(form), list(form.ranks)) for name, form in job.forms.items()}
    assert document["totals"]["split"]["by"] == "evidence"
    facts = job.run.facts("decompose")
    assert document["totals"]["split"]["predicted_cost"] == facts["predicted_costs"]["chosen"]
    assert facts["predicted_costs"]["chosen"] < facts["predicted_costs"]["uniform"]


def test_weights_are_those_of_their_kind(tiny_llama: Path):
    jobs = {kind: decomposed(tiny_llama, kind) for kind in KINDS}
    by = {kind: read_evidence(job.run.path).linears for kind, job in jobs.items()}
    for name, linear in by["none"].items():
        assert linear.weight == linear.points[(len(linear.points) - 1) // 2].error
        assert all(by[kind][name].points == linear.points for kind in KINDS)
    weights = {kind: torch.tensor([each.weight for each in found.values()]) for kind, found in by.items()}
    assert weights["divergence"].max() < 1
    pair = torch.stack([weights["gradient"].log(), weights["divergence"].log()])
    assert torch.corrcoef(pair)[0, 1] > 0.5


@pytest.mark.parametrize("gone", [False, True], ids=["streams there", "streams gone"])
def test_a_measurement_that_is_killed_goes_on_with_the_same_result(gone: bool, tiny_llama: Path, tmp_path: Path):
    whole = decomposed(tiny_llama, "divergence")
    job = make_job(tiny_llama, "liptt-onestep", *words("divergence"), folder=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        finish(replace(job, reporter=Told("layers.1.mlp.up_proj")), until="decompose")
    assert len(read_evidence(job.run.path).linears) == 7
    if gone:
        for stream in (job.run.path / "02-decompose" / "evidence-streams").iterdir():
            stream.unlink()
    told = Told()
    finish(replace(job, reporter=told), until="decompose")
    assert told.totals["evidence"] == 8
    assert not any("layers.0" in line for line in told.lines)
    assert (job.run.path / FILE).read_bytes() == (whole.run.path / FILE).read_bytes()
    assert job.run.facts("decompose")["forms"] == whole.run.facts("decompose")["forms"]
    assert not list((job.run.path / "02-decompose").rglob("*.safetensors"))


def test_without_a_metric_nothing_flows(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flows = []

    def noted(*arguments: Any, itinerary: Itinerary, **more: Any) -> None:
        flows.append(itinerary.flows)
        walk(*arguments, itinerary=itinerary, **more)

    monkeypatch.setattr(stage, "walk", noted)
    plain = words("none", "binarize.metric={cols: none}")
    finish(make_job(tiny_llama, "liptt-onestep", *plain, folder=tmp_path / "run"), until="decompose")
    assert flows == [False]
    assert len(read_evidence(tmp_path / "run").linears) == 14


def test_each_layout_is_measured_and_either_may_be_chosen(tiny_llama: Path, tmp_path: Path):
    mpo = "candidates: [{kind: tensor_train, start: random, layout: mpo, cores: 2}]"
    both = (AT % "none").replace("at_unit: bits, at_bits: [1.6, 2.6]", f"{mpo}, at_unit: dial, at_bits: [0.667, 1.1]")
    job = make_job(tiny_llama, "liptt-onestep", *words("none", both, "load.skip=['*.0.*']"), folder=tmp_path / "run")
    finish(job, until="binarize")
    evidence = read_evidence(job.run.path)
    assert {point.candidate for linear in evidence.linears.values() for point in linear.points} == {0, 1}
    facts = job.run.facts("decompose")
    assert facts["predicted_costs"]["chosen"] <= facts["predicted_costs"]["uniform"]
    assert set(job.run.facts("binarize")["linears"]) == set(job.forms)
