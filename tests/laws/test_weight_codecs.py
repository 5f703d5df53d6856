"""The laws of codecs of a weight itself and of the solvers that encode with them: grids, and grids refitted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import gram, llm_like, normal, plan_of, seeded
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import codec_of, factor_of, solver_of
from liptt_cli.formats.pieces import compact
from liptt_cli.formats.rounding import nearest
from liptt_cli.forms.base import blob_bytes
from liptt_cli.menu.binarize import WEIGHT_CODECS
from liptt_cli.menu.decompose import Identity
from liptt_cli.menu.solvers import ColumnSweep, Direct
from liptt_cli.menu.weight_codecs import GridCodec, Refit, ResidualCodec, TurnedCodec, ZonesCodec
from liptt_cli.packing.blob import pack, unpack
from liptt_cli.planning.weight_price import weight_form


def grid(alphabet="sign", scale=("group",), **more):
    groups = {"group_columns": 4} if "group" in scale else {}
    return GridCodec(kind="grid", alphabet=alphabet, scale=list(scale), **groups, **more)


def refits(*kinds, codes=True):
    return [Refit(iterations=3, metric=kind, codes=codes) for kind in kinds]


GRIDS = {
    "signs": grid(),
    "signs and shift": grid(shift=True),
    "two planes and shift": grid(planes=2, shift=True),
    "two planes, split": grid(planes=2, fit="split"),
    "two planes by row, split, and shift": grid(planes=2, scale=["row"], shift=True, fit="split"),
    "signs by row": grid(scale=["row"], fit="rms"),
    "signs by column": grid(scale=["column"]),
    "signs by group and column": grid(scale=["group", "column"], planes=2),
    "trits, one scale": grid("trit", scale=["tensor"]),
    "trits and shift": grid("trit", fit="twn", shift=True),
    "int4": grid("int4", fit="minmax"),
    "int3 searched": grid("int3", scale=["row"], fit="search", search_steps=9),
    "uint2 and shift": grid("uint2", fit="minmax", shift=True),
    "two planes of bits": grid("bit", planes=2, fit="minmax"),
}
REFITTED = {
    "signs and shift, plain": grid(shift=True, refit=refits("none")),
    "signs and shift, whole moment, codes as they are": grid(shift=True, refit=refits("full", codes=False)),
    "two planes and shift": grid(planes=2, shift=True, refit=refits("none")),
    "signs by group and column": grid(scale=["group", "column"], refit=refits("none")),
    "two planes by group and column": grid(scale=["group", "column"], planes=2, refit=refits("full")),
    "trits and shift, plain, then whole moment": grid(
        "trit", fit="twn", shift=True, refit=[*refits("none"), *refits("full", codes=False)]
    ),
    "trits and shift, whole moment": grid("trit", fit="twn", shift=True, refit=refits("full")),
    "trits, one scale": grid("trit", scale=["tensor"], refit=refits("diagonal")),
    "int4": grid("int4", fit="minmax", refit=refits("diagonal")),
    "uint2 by row, whole moment": grid("uint2", scale=["row"], fit="minmax", shift=True, refit=refits("full")),
    "two planes of bits": grid("bit", planes=2, fit="minmax", refit=refits("none")),
}
RECORDS = GRIDS | {f"{name}, refitted": record for name, record in REFITTED.items()}
SWEEPS = [
    ColumnSweep(kind="column_sweep", sweep_columns=columns, within=within, order=order)
    for columns, within, order in ((4, True, "natural"), (6, True, "natural"), (8, False, "natural"))
] + [ColumnSweep(kind="column_sweep", sweep_columns=4, order="activation")]

shapes = st.tuples(st.integers(1, 6), st.integers(2, 14))
seeds = st.integers(0, 99)
few = settings(max_examples=2, deadline=None)
every = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)


def drawn(shape, seed):
    """Values so large that no scale of theirs is a subnormal float16, some entries of them, and a metric."""
    rows, columns = shape
    where = torch.rand(rows, columns, generator=seeded(seed)) < 0.7
    weights = normal(rows, seed=seed + 1).abs() + 0.1
    return 64 * normal(rows, columns, seed=seed), where, Metric(weights, gram(columns, seed=seed))


def fitted(record, values, metric, where=None):
    codec = codec_of(record).prepare(values, metric=metric)
    return codec.columns(0, values.shape[1]).fit(values, metric=metric, where=where)


def rounded(fit, values, start=0):
    return fit.round(values, start=start).dense(values.dtype)


def plan(record, solver, shape):
    return plan_of(weight_form(shape, record), factor_of(Identity()), codec_of(record), solver_of(solver))


def encoded(record, solver, weight, metric):
    return solver_of(solver).encode(weight, codec=codec_of(record), metric=metric)


def test_every_codec_of_a_weight_on_the_menu_is_here():
    elsewhere = {ZonesCodec, ResidualCodec, TurnedCodec}  # test_zones, and test_turned
    assert {type(record) for record in RECORDS.values()} | elsewhere == set(WEIGHT_CODECS)


@every
@given(shape=shapes, seed=seeds)
@few
def test_shape_and_dtype_are_kept(record, shape, seed):
    values, where, metric = drawn(shape, seed)
    for chosen in (None, where, torch.zeros_like(where)):
        found = rounded(fitted(record, values, metric, chosen), values)
        assert found.shape == values.shape
        assert found.dtype == values.dtype
        assert bool(torch.isfinite(found).all())


@every
@given(shape=shapes, seed=seeds)
@few
def test_entries_elsewhere_do_not_influence_the_fit(record, shape, seed):
    values, where, metric = drawn(shape, seed)
    others = torch.where(where, values, 6400 * normal(*shape, seed=seed + 2))
    first, second = (fitted(record, each, metric, where) for each in (values, others))
    assert torch.equal(rounded(first, values), rounded(second, values))


@every
@given(shape=shapes, seed=seeds, data=st.data())
@few
def test_rounding_a_range_is_that_range_of_the_rounding(record, shape, seed, data):
    values, where, metric = drawn(shape, seed)
    fit = fitted(record, values, metric, where)
    start = data.draw(st.integers(0, shape[1] - 1))
    stop = data.draw(st.integers(start + 1, shape[1]))
    assert torch.equal(rounded(fit, values[:, start:stop], start), rounded(fit, values)[:, start:stop])


@every
@given(shape=shapes, seed=seeds)
@few
def test_doubling_the_values_doubles_what_is_decoded(record, shape, seed):
    values, where, metric = drawn(shape, seed)
    once, twice = (rounded(fitted(record, each, metric, where), each) for each in (values, 2 * values))
    torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize("record", REFITTED.values(), ids=REFITTED)
@given(shape=shapes, seed=seeds)
@few
def test_a_refit_never_raises_the_error(record, shape, seed):
    values, where, metric = drawn(shape, seed)
    for count, how in enumerate(record.refit):
        seen = {"none": Metric(), "diagonal": Metric(metric.rows, metric.cols.diagonal()), "full": metric}[how.metric]
        records = [record.model_copy(update={"refit": record.refit[:stop]}) for stop in (count, count + 1)]
        left = [where * (values - rounded(fitted(each, values, metric, where), values)) for each in records]
        before, after = (float(seen.error(each).sum()) for each in left)
        assert after <= before * (1 + 1e-9)


@every
@given(shape=shapes, seed=seeds, sweep=st.sampled_from(SWEEPS))
@few
def test_a_sweep_without_correlations_is_plain_encoding(record, shape, seed, sweep):
    values, _, metric = drawn(shape, seed)
    alone = metric.cols.diagonal()
    plain = encoded(record, Direct(), values, Metric(cols=alone)).piece.dense(values.dtype)
    for cols in (alone, torch.diag(alone)):
        found = encoded(record, sweep, values, Metric(cols=cols))
        near = 1e-3 * float(plain.abs().max())  # a scale in float16 may fall to the next one
        torch.testing.assert_close(found.piece.dense(values.dtype), plain, rtol=1e-3, atol=near)
        torch.testing.assert_close(found.values, values)


@pytest.mark.parametrize("solver", [Direct(), *SWEEPS], ids=str)
@given(shape=shapes, seed=seeds)
@few
def test_what_a_codec_holds_exactly_comes_back(solver, shape, seed):
    codes = torch.randint(0, 4, shape, generator=seeded(seed)).to(torch.float64)
    codes[:, ::4], codes[:, 1::4] = 0, 3  # each group has both ends of the range
    if shape[1] % 4 == 1:
        codes[:, -1] = 1  # or a zero alone
    weight = 0.25 * (codes - 1)
    metric = Metric(cols=gram(shape[1], seed=seed))
    record = grid("uint2", fit="minmax", shift=True)
    assert torch.equal(encoded(record, solver, weight, metric).piece.dense(weight.dtype), weight)


@every
@pytest.mark.parametrize("solver", [Direct(), SWEEPS[1]], ids=lambda solver: solver.kind)
def test_what_is_stored_is_what_was_planned_and_counted(record, solver):
    weight, metric = llm_like(5, 14), Metric(cols=gram(14, dtype=torch.float32))
    solved = compress(weight, plan=plan(record, solver, (5, 14)), metric=metric, generator=seeded())
    assert solved.value.form == weight_form((5, 14), record)
    blob = pack(solved.value)
    assert len(blob) == blob_bytes(solved.value.form)
    assert torch.equal(unpack(solved.value.form, blob).dense(), solved.value.dense())
    piece = compact(encoded(record, solver, weight, metric).piece).dense()
    torch.testing.assert_close(solved.value.dense(), piece, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("solver", [Direct(), *SWEEPS[::3]], ids=lambda solver: solver.kind)
@pytest.mark.parametrize("name", [name for name, record in GRIDS.items() if record.planes == 1])
def test_a_source_is_what_the_codes_were_rounded_from(name, solver):
    weight, metric = llm_like(5, 14), Metric(cols=gram(14, dtype=torch.float32))
    solved = compress(weight, plan=plan(GRIDS[name], solver, (5, 14)), metric=metric, generator=seeded())
    assert torch.equal(nearest(solved.sources[0], GRIDS[name].alphabet), solved.value.codes)
