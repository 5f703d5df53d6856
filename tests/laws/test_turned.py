"""The laws of weight codecs for those that turn a range of columns, and of every codec behind every transform."""

import pytest
import torch

from drawn import gram, llm_like, normal, plan_of, seeded
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import codec_of, factor_of, solver_of, transform_of
from liptt_cli.forms.base import blob_bytes
from liptt_cli.menu.decompose import Identity
from liptt_cli.menu.masks import SalientColumns
from liptt_cli.menu.solvers import ColumnSweep, Direct
from liptt_cli.menu.transforms import Haar, Hadamard, Permutation, Scale
from liptt_cli.menu.weight_codecs import GridCodec, TurnedCodec, ZonesCodec
from liptt_cli.packing.blob import pack, unpack
from liptt_cli.planning.turn_price import turned_form
from liptt_cli.planning.weight_price import weight_form

ROWS, COLUMNS = 6, 28
SLACK_BYTES = 32  # sections start at multiples of 16, and the data decide where zones end
SPLIT = GridCodec(kind="grid", planes=2, group_columns=4, shift=True, fit="split")
ZONES = ZonesCodec(
    kind="zones", mask=SalientColumns(kind="salient_columns", most=3), parts={"rest": SPLIT, "salient": SPLIT}
)
OUTPUTS, INPUTS, BOTH = (
    Haar(kind="haar", side="out", block=2),
    Haar(kind="haar", block=8),
    Haar(kind="haar", side="both", block=8),
)
RECORDS = {
    "rows": TurnedCodec(kind="turned", transform=OUTPUTS, inner=SPLIT),
    "columns": TurnedCodec(kind="turned", transform=INPUTS, inner=SPLIT),
    "two levels": TurnedCodec(kind="turned", transform=Haar(kind="haar", block=16, levels=2), inner=SPLIT),
    "rows around zones": TurnedCodec(kind="turned", transform=OUTPUTS, inner=ZONES),
    "columns around zones": TurnedCodec(kind="turned", transform=INPUTS, inner=ZONES),
}
SOLVERS = {
    "direct": Direct(),
    "block": ColumnSweep(kind="column_sweep", sweep_columns=8, within=False),
    "column": ColumnSweep(kind="column_sweep", sweep_columns=8),
}
TRANSFORMS = {
    "scale": [Scale(kind="scale")],
    "hadamard": [Hadamard(kind="hadamard", side="both")],
    "permutation, then haar": [Permutation(kind="permutation", group_columns=4), INPUTS],
    "all": [Scale(kind="scale"), Hadamard(kind="hadamard"), Permutation(kind="permutation", by="activation")],
}
WEIGHT, METRIC = llm_like(ROWS, COLUMNS), Metric(cols=gram(COLUMNS, dtype=torch.float32))


def fitted(record, values):
    codec = codec_of(record).prepare(values, metric=Metric())
    return codec.columns(0, values.shape[1]).fit(values, metric=Metric())


def stored(record, solver, transforms=()):
    form = turned_form(weight_form((ROWS, COLUMNS), record), transforms)
    pieces = (factor_of(Identity()), codec_of(record), solver_of(solver))
    plan = plan_of(form, *pieces, transforms=tuple(map(transform_of, transforms)))
    return form, compress(WEIGHT, plan=plan, metric=METRIC, generator=seeded())


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_shape_and_dtype_are_kept_and_doubling_the_values_doubles_what_is_decoded(record):
    values = normal(ROWS, 16)
    once, twice = (fitted(record, each).round(each).dense(torch.float64) for each in (values, 2 * values))
    assert once.shape == values.shape
    torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_what_is_stored_is_what_was_planned_at_most(record, solver):
    form, solved = stored(record, solver)
    blob = pack(solved.value)
    assert len(blob) == blob_bytes(solved.value.form) <= blob_bytes(form) + SLACK_BYTES
    assert (solved.value.form == form) == (record.inner is SPLIT)
    assert torch.equal(unpack(solved.value.form, blob).dense(), solved.value.dense())
    assert solved.error < 0.3


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_are_planned_fitted_stored_and_counted(transforms, solver):
    form, solved = stored(SPLIT, solver, transforms)
    assert solved.value.form == form
    blob = pack(solved.value)
    assert len(blob) == blob_bytes(form)
    assert torch.equal(unpack(form, blob).dense(), solved.value.dense())
    left = WEIGHT - solved.value.dense()
    assert solved.error == pytest.approx(float(METRIC.error(left).sum() / METRIC.error(WEIGHT).sum()))
    assert solved.error < 0.3


def test_sources_of_a_turned_weight_are_those_of_the_inner_one():
    signs = GridCodec(kind="grid", group_columns=4)
    _, solved = stored(signs, Direct(), TRANSFORMS["hadamard"])
    assert torch.equal((solved.sources[0] >= 0).to(torch.uint8), solved.value.inner.codes)
