"""The metric of a linear: columns shared by its group, rows its own, and no row without any weight."""

from pathlib import Path

import pytest
import torch

from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.stages.cost import Costs
from liptt_cli.stages.job import Job
from running import finish, make_job, short


def costs(job: Job, folder: Path, *, flows: bool = True):
    """Return the metrics of the second block's linears, by group."""
    found = []

    def work(visit: Visit) -> None:
        found.append([Costs(job).of(visit, group) for group in job.structure.groups(visit.number)])

    model = StreamedModel(job.source, dtype=torch.float32)
    walk(model, job.windows, streams=Streams(folder), itinerary=Itinerary(0, 4, flows), work=work)
    return found[1]


def prepared(model: Path, folder: Path, *overrides: str) -> Job:
    job = make_job(model, "sign", *short("sign", *overrides), folder=folder)
    finish(job, until="decompose")
    return job


@pytest.mark.parametrize("rows", ["none", "diagonal"])
def test_a_group_shares_its_columns_and_each_linear_has_its_own_rows(rows: str, tiny_llama: Path, tmp_path: Path):
    job = prepared(tiny_llama, tmp_path / "run", "binarize.metric.cols=full", f"binarize.metric.rows={rows}")
    attention, output, *_ = costs(job, tmp_path / "streams")
    assert [len(attention), len(output)] == [3, 1]
    query, key, value = attention.values()
    assert query.cols is key.cols is value.cols and query.cols.shape == (32, 32)
    assert output["model.layers.1.self_attn.o_proj"].cols is not query.cols
    if rows == "none":
        assert query.rows is key.rows is None
    else:
        assert [len(each.rows) for each in (query, key, value)] == [32, 16, 16]
        assert not torch.equal(key.rows, value.rows)


def test_rows_are_shrunk_as_columns_are_and_none_is_left_without_weight(tiny_llama: Path, tmp_path: Path):
    words = ("binarize.metric.rows=diagonal", "calibration.damping=0.25", "calibration.shrinkage=0.5")
    job = prepared(tiny_llama, tmp_path / "run", *words)
    name = "model.layers.1.mlp.up_proj"
    squares = job.gradient_squares[name].double()
    metrics = costs(job, tmp_path / "streams", flows=False)
    torch.testing.assert_close(metrics[2][name].rows, 0.5 * squares + 0.75 * squares.mean())
    assert metrics[2][name].cols is None

    bare = prepared(tiny_llama, tmp_path / "bare", "binarize.metric.rows=diagonal", "calibration.damping=0")
    bare.gradient_squares[name][:3] = 0
    bare.gradient_squares["model.layers.1.mlp.down_proj"][:] = 0
    metrics = costs(bare, tmp_path / "streams", flows=False)
    rows = metrics[2][name].rows
    torch.testing.assert_close(rows[:3], rows[3:].mean().expand(3) * 1e-6 * 61 / 64)
    assert metrics[3]["model.layers.1.mlp.down_proj"].rows is None
