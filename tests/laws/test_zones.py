"""The laws of codecs of zones and of sums, for every mask on the menu: inside where, range by range, in any unit."""

import pytest
import torch

from drawn import gram, llm_like, normal, plan_of, seeded
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import MASKS, codec_of, factor_of, solver_of
from liptt_cli.formats.pieces import compact, join
from liptt_cli.forms.base import blob_bytes
from liptt_cli.menu import masks
from liptt_cli.menu.decompose import Identity
from liptt_cli.menu.solvers import ColumnSweep, Direct
from liptt_cli.menu.transforms import Haar
from liptt_cli.menu.weight_codecs import GridCodec, ResidualCodec, TurnedCodec, ZeroCodec, ZonesCodec
from liptt_cli.packing.blob import pack, unpack
from liptt_cli.planning.weight_price import weight_form

SHAPE = (6, 20)
VALUES, METRIC = normal(*SHAPE), Metric(cols=gram(SHAPE[1]), pivot=normal(SHAPE[1], seed=9).abs() + 0.5)
SOME = torch.rand(SHAPE, generator=seeded(1)) < 0.8
PADDING_BYTES = 16  # of each section


def grid(alphabet="sign", **more):
    return GridCodec(kind="grid", alphabet=alphabet, scale=["group"], group_columns=4, **more)


def signs(planes=1):
    return grid(planes=planes, shift=True)


def integers(alphabet):
    return grid(alphabet, shift=True, fit="minmax")


def zones(mask, *parts):
    return ZonesCodec(kind="zones", mask=mask, parts=dict(zip(mask.zones, parts, strict=True)))


SPLIT = masks.MagnitudeSplit(kind="magnitude_split", grid=9)
THREE = masks.MagnitudeSplit(kind="magnitude_split", grid=9, ratio=2.0, judge="row_error")
COLUMNS = masks.SalientColumns(
    kind="salient_columns", most=2, score="obs", judged_on="scores", trial_planes={"rest": 2}
)
INNER = zones(COLUMNS, zones(THREE, signs(), signs(), signs()), signs(2))
RECORDS = {
    "top share": zones(masks.TopShare(kind="top_share", share=0.2), signs(), integers("uint3")),
    "top share of rows": zones(masks.TopShare(kind="top_share", share=0.2, by_row=True), signs(), integers("uint3")),
    "top columns": zones(masks.TopColumns(kind="top_columns", share=0.3), grid("trit"), integers("uint4")),
    "salient columns, split": zones(COLUMNS, zones(SPLIT, signs(), signs()), signs(2)),
    "both sides split": zones(COLUMNS, zones(SPLIT, signs(), signs()), zones(SPLIT, signs(2), signs(2))),
    "three zones in 2 of 4": zones(masks.NOfM(kind="n_of_m", keep=2, of=4, scope="fit"), ZeroCodec(kind="zero"), INNER),
    "blocks of bits": zones(
        masks.BlockBits(kind="block_bits", columns=4, judge="error", scope="fit"), signs(), signs(), signs(2)
    ),
    "sum": ResidualCodec(kind="residual", parts=[signs(), integers("uint2")]),
    "sum on columns": ResidualCodec(
        kind="residual",
        mask=COLUMNS,
        fill_columns=3,
        parts=[
            TurnedCodec(
                kind="turned",
                transform=Haar(kind="haar", block=4),
                inner=grid(shift=False).model_copy(update={"group_columns": 2}),
            ),
            zones(SPLIT, signs(), signs()),
        ],
    ),
}
ONCE = {
    "top share": zones(masks.TopShare(kind="top_share", share=0.2, score="obs", scope="weight"), signs(), signs(2)),
    "2 of 4": zones(masks.NOfM(kind="n_of_m", keep=2, of=4, score="standardised"), ZeroCodec(kind="zero"), INNER),
    "3 of 8, a short run": zones(masks.NOfM(kind="n_of_m", keep=3, of=8), ZeroCodec(kind="zero"), signs()),
    "blocks of bits": zones(
        masks.BlockBits(kind="block_bits", columns=4, score="obs"), signs(), *map(integers, ("uint2", "uint3"))
    ),
}
SWEEP = ColumnSweep(kind="column_sweep", sweep_columns=4, within=False)
every = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)


def fitted(record, values, where=None):
    return codec_of(record).prepare(values, metric=METRIC).fit(values, metric=METRIC, where=where)


def rounded(fit, values, start=0):
    return fit.round(values, start=start).dense(values.dtype)


def test_every_mask_of_the_menu_is_here():
    found = {type(record.mask) for record in RECORDS.values() if isinstance(record, ZonesCodec)}
    assert found | {type(SPLIT)} == set(MASKS)


@every
def test_shape_and_dtype_are_kept(record):
    for where in (None, SOME, torch.zeros_like(SOME)):
        found = rounded(fitted(record, VALUES, where), VALUES)
        assert (found.shape, found.dtype) == (VALUES.shape, VALUES.dtype)
        assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("name", [name for name in RECORDS if not name.startswith("sum")])
def test_entries_elsewhere_do_not_influence_the_fit(name):
    others = torch.where(SOME, VALUES, 100 * normal(*SHAPE, seed=2))
    first, second = (fitted(RECORDS[name], each, SOME) for each in (VALUES, others))
    assert torch.equal(rounded(first, VALUES)[SOME], rounded(second, VALUES)[SOME])


@every
def test_rounding_a_range_is_that_range_of_the_rounding(record):
    fit = fitted(record, VALUES)
    assert torch.equal(rounded(fit, VALUES[:, 4:12], 4), rounded(fit, VALUES)[:, 4:12])


@every
def test_doubling_the_values_doubles_what_is_decoded(record):
    once, twice = (rounded(fitted(record, each), each) for each in (VALUES, 2 * VALUES))
    torch.testing.assert_close(twice, 2 * once, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("solver", [Direct(), SWEEP], ids=str)
@pytest.mark.parametrize("record", [*RECORDS.values(), *ONCE.values()], ids=[*RECORDS, *(f"{n}, once" for n in ONCE)])
def test_what_is_stored_is_what_was_fitted_and_no_more_than_planned(record, solver):
    if isinstance(solver, Direct) and record.divides_by_pivots:
        pytest.skip("pivots are computed in a sweep")
    weight, metric = llm_like(*SHAPE), Metric(cols=gram(SHAPE[1], dtype=torch.float32))
    form = weight_form(SHAPE, record)
    plan = plan_of(form, factor_of(Identity()), codec_of(record), solver_of(solver))
    solved = compress(weight, plan=plan, metric=metric, generator=seeded())
    written = solved.value.form
    assert blob_bytes(written) <= blob_bytes(form) + PADDING_BYTES * len(written.sections())
    blob = pack(solved.value)
    assert len(blob) == blob_bytes(written)
    assert torch.equal(unpack(written, blob).dense(), solved.value.dense())
    piece = solver_of(solver).encode(weight, codec=codec_of(record), metric=metric).piece
    torch.testing.assert_close(solved.value.dense(), compact(piece).dense(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("name", ["2 of 4", "3 of 8, a short run"])
def test_n_of_m_is_exact_behind_a_sweep_that_pushes_errors_on(name, within):
    """STBLLM's released code binarises pruned weights again; here zeros are a zone, and stay zeros."""
    record, weight = ONCE[name], llm_like(*SHAPE)
    solver = solver_of(ColumnSweep(kind="column_sweep", sweep_columns=4, within=within))
    found = solver.encode(weight, codec=codec_of(record), metric=Metric(cols=gram(SHAPE[1], dtype=torch.float32)))
    assert not torch.equal(found.values, weight)
    of, keep = record.mask.of, record.mask.keep
    whole = SHAPE[1] // of * of
    zeros = compact(found.piece).dense() == 0
    assert zeros[:, :whole].unflatten(1, (-1, of)).sum(2).unique().tolist() == [of - keep]
    assert zeros[:, whole:].sum(1).unique().tolist() in ([], [SHAPE[1] - whole - -(-keep * (SHAPE[1] - whole) // of)])


def test_zones_within_zones_are_the_same_zones_side_by_side():
    """Columns, then a split of the rest: each entry is coded with all that carry its labels, and no others."""
    found = fitted(RECORDS["salient columns, split"], VALUES).round(VALUES)
    inner = found.parts[0]
    for zone, part in (
        (found.labels == 1, found.parts[1]),
        *(((found.labels == 0) & (inner.labels == k), inner.parts[k]) for k in (0, 1)),
    ):
        alone = codec_of(signs(part.codes.shape[0])).fit(VALUES, metric=METRIC, where=zone).round(VALUES)
        assert torch.equal(part.dense(VALUES.dtype)[zone], alone.dense(VALUES.dtype)[zone])


def test_ranges_are_joined_as_the_whole():
    codec = codec_of(RECORDS["salient columns, split"]).prepare(VALUES, metric=METRIC)
    ranges = [(start, start + 4) for start in range(0, SHAPE[1], 4)]
    pieces = [
        codec.columns(*each).fit(VALUES[:, slice(*each)], metric=METRIC.columns(*each)).round(VALUES[:, slice(*each)])
        for each in ranges
    ]
    expected = torch.cat([piece.dense(VALUES.dtype) for piece in pieces], dim=1)
    assert torch.equal(join(pieces).dense(VALUES.dtype), expected)


def test_scores_that_need_pivots_say_so():
    needs = {name: codec_of(record).needs_pivot for name, record in (RECORDS | ONCE).items()}
    assert needs["salient columns, split"] and needs["blocks of bits"] and needs["sum on columns"]
    assert not needs["top columns"]


@pytest.mark.parametrize("name", ["2 of 4", "top share", "blocks of bits"])
def test_labels_chosen_once_do_not_move_with_the_values(name):
    codec = codec_of(ONCE[name]).prepare(VALUES, metric=METRIC)
    labels = [codec.fit(each, metric=METRIC).labels for each in (VALUES, VALUES.flip(0))]
    assert torch.equal(*labels)
    assert torch.equal(
        codec.columns(4, 12).fit(VALUES[:, 4:12], metric=METRIC.columns(4, 12)).labels, labels[0][:, 4:12]
    )
