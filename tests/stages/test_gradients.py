"""Gradient squares in a run: measured only if something asks, once, for the selected linears, and used."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages import gradients
from liptt_cli.stages.gradients import measure_gradients
from liptt_cli.stages.job import GRADIENTS, Job
from running import finish, make_job, reopened, short

ROWS = "binarize.metric.rows=diagonal"


def decomposed(model: Path, folder: Path, *overrides: str) -> Job:
    job = make_job(model, "sign", *short("sign", *overrides), folder=folder)
    finish(job, until="decompose")
    return job


def test_nothing_is_measured_unless_something_asks(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gradients, "gradient_squares", None)
    job = decomposed(tiny_llama, tmp_path / "run")
    assert job.gradient_squares == {}
    assert not (job.run.stage("decompose") / "streams").exists()


def test_the_selected_linears_have_a_vector_each_in_the_file(tiny_llama: Path, tmp_path: Path):
    job = decomposed(tiny_llama, tmp_path / "run", ROWS, "load.skip=['*.0.*']", "calibration.gradient_windows=3")
    folder = job.run.stage("decompose")
    squares = load_file(folder / GRADIENTS)
    assert set(squares) == {site.name for site in job.structure.sites} and len(squares) == 7
    for site in job.structure.sites:
        assert squares[site.name].shape == (site.shape[0],) and squares[site.name].dtype == torch.float32
        assert torch.equal(job.gradient_squares[site.name], squares[site.name]) and squares[site.name].sum() > 0
    assert not list((folder / "streams").iterdir())
    fewer = decomposed(tiny_llama, tmp_path / "fewer", ROWS, "load.skip=['*.0.*']", "calibration.gradient_windows=2")
    assert not torch.equal(fewer.gradient_squares[site.name], squares[site.name])


def test_a_stage_that_was_broken_off_measures_no_second_time(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = decomposed(tiny_llama, tmp_path / "run", ROWS)
    (job.run.stage("decompose") / "stage.json").unlink()
    monkeypatch.setattr(gradients, "gradient_squares", None)
    measure_gradients(reopened(job))
    assert set(reopened(job).gradient_squares) == {site.name for site in job.structure.sites}


def weighted_error(job: Job, squares: dict[str, Tensor], dense: dict[str, Tensor]) -> float:
    """Return the sum over linears of the relative error in which each row counts by its squared gradients."""
    overlay, total = Overlay.read(job.block_files("binarize")), 0.0
    for name, weights in squares.items():
        weight = dense[f"{name}.weight"]
        error = Metric(weights).error(weight - overlay.value(name).dense()).sum()
        total += float(error / Metric(weights).error(weight).sum())
    return total


def test_rows_that_the_loss_feels_are_fitted_better(tiny_llama: Path, tmp_path: Path):
    plain, aware = (
        make_job(tiny_llama, "sign", *short("sign", f"binarize.metric.rows={rows}"), folder=tmp_path / rows)
        for rows in ("none", "diagonal")
    )
    finish(plain, until="binarize")
    assert finish(aware) is not None
    squares, dense = aware.gradient_squares, load_file(tiny_llama / "model.safetensors")
    assert weighted_error(aware, squares, dense) < weighted_error(plain, squares, dense)


@pytest.mark.parametrize(
    ("method", "more"),
    [("liptt-ptq", "binarize.metric.cols=diagonal"), ("liptt-onestep", "decompose.factor.layout=mpo")],
)
def test_chains_of_both_layouts_take_them_too(method: str, more: str, tiny_llama: Path, tmp_path: Path):
    words = short(method, ROWS, more, "binarize.codes.steps=0", "binarize.scale_repair=false")
    job = make_job(tiny_llama, method, *words, folder=tmp_path / "run")
    finish(job, until="binarize")
    facts = job.run.facts("binarize")["linears"]
    assert set(facts) == set(job.gradient_squares)
    assert all(0 < found["error"] < 1 for found in facts.values())
