"""The sweep over columns, against the same done slowly: after each step the rest is the least-squares answer."""

from dataclasses import dataclass, field, replace

import pytest
import torch

from drawn import gram, normal
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.column_sweep import ColumnSweepSolver
from liptt_cli.formats.pieces import compact

ROWS, COLUMNS = 5, 24
WEIGHT, GRAM = normal(ROWS, COLUMNS), gram(COLUMNS)
TRITS = GridCodec("trit", group_columns=None, rule="absmean")


def answered(values, rounded, order, done):
    """The values of columns that are not done, to make up for those that are: the exact minimum of the error."""
    first, rest = order[:done], order[done:]
    error = rounded[:, first] - values[:, first]
    return values[:, rest] - error @ GRAM[first][:, rest] @ torch.linalg.inv(GRAM[rest][:, rest])


def slowly(codec, order, step=1):
    """Round columns in an order, `step` at a time, under the scales of the whole weight as it was."""
    fit, values = codec.fit(WEIGHT, metric=Metric()), WEIGHT.clone()
    rounded = torch.zeros_like(values)
    for start in range(0, COLUMNS, step):
        for column in order[start : start + step]:
            rounded[:, column] = fit.round(values[:, [column]], start=int(column)).dense(torch.float64)[:, 0]
        values[:, order[start + step :]] = answered(WEIGHT, rounded, order, start + step)
    return rounded


def swept(codec=TRITS, weight=WEIGHT, cols=GRAM, **options):
    return ColumnSweepSolver(**options).encode(weight, codec=codec, metric=Metric(cols=cols))


@pytest.mark.parametrize("sweep_columns", [1, 5, 24, 128])
def test_each_column_gets_what_makes_up_best_for_those_before(sweep_columns: int):
    found = swept(sweep_columns=sweep_columns).piece.dense(torch.float64)
    torch.testing.assert_close(found, slowly(TRITS, torch.arange(COLUMNS)))


@pytest.mark.parametrize("sweep_columns", [5, 24])
def test_the_largest_inputs_come_first(sweep_columns: int):
    found = swept(sweep_columns=sweep_columns, order="activation").piece.dense(torch.float64)
    torch.testing.assert_close(found, slowly(TRITS, GRAM.diagonal().argsort(descending=True)))


def test_joint_errors_are_exact_for_blocks():
    found = swept(sweep_columns=6, within=False, joint_errors=True).piece.dense(torch.float64)
    torch.testing.assert_close(found, slowly(TRITS, torch.arange(COLUMNS), step=6))
    assert not torch.equal(found, swept(sweep_columns=6, within=False).piece.dense(torch.float64))


def test_groups_are_fitted_to_what_has_become_of_them():
    codec = replace(TRITS, group_columns=6)
    whole = swept(codec, sweep_columns=12)
    first, rest = whole.values[:, :6], whole.values[:, 6:12]
    assert torch.equal(first[:, 0], WEIGHT[:, 0])
    assert not torch.allclose(rest, WEIGHT[:, 6:12])
    fit = codec.fit(WEIGHT[:, :6], metric=Metric())
    assert torch.equal(whole.piece.scale.rows[..., :1], fit.scale.rows)
    assert torch.equal(whole.piece.codes[:, :, :6], fit.round(first).codes)


@dataclass(frozen=True)
class Listening:
    """A codec that notes the ranges that it is asked for."""

    inner: GridCodec
    group_columns: int | None
    step_columns: int | None = 1
    needs_pivot: bool = True
    heard: list = field(default_factory=list)

    def prepare(self, weight, *, metric):
        self.heard.append(metric.pivot)
        return self

    def columns(self, start, stop):
        self.heard.append((start, stop))
        return self

    def fit(self, values, *, metric, where=None):
        return self.inner.fit(values, metric=metric, where=where)


@pytest.mark.parametrize(
    ("group", "step", "within", "ranges"),
    [
        (8, 1, True, [(0, 8), (8, 16), (16, 24)]),
        (8, 1, False, [(0, 16), (16, 24)]),
        (16, 1, True, [(0, 16), (16, 24)]),
        (None, 1, False, [(0, 24)]),
        (8, None, True, [(0, 8), (8, 16), (16, 24)]),
        (16, None, False, [(0, 16), (16, 24)]),
    ],
)
def test_groups_are_never_cut(group: int | None, step: int | None, within: bool, ranges: list[tuple[int, int]]):
    codec = Listening(replace(TRITS, group_columns=group), group, step)
    found = swept(codec, sweep_columns=10, within=within)
    assert codec.heard[1:] == ranges
    assert found.piece.codes.shape == (1, ROWS, COLUMNS)


@pytest.mark.parametrize("order", ["natural", "activation"])
def test_a_codec_hears_the_pivots_of_its_columns(order: str):
    codec = Listening(TRITS, None)
    swept(codec, order=order)
    columns = GRAM.diagonal().argsort(descending=True) if order == "activation" else torch.arange(COLUMNS)
    for place, column in enumerate(columns):
        rest = columns[place:]
        alone = torch.linalg.inv(GRAM[rest][:, rest])[0, 0]
        torch.testing.assert_close(codec.heard[0][column] ** 2, alone)


@pytest.mark.parametrize("order", ["natural", "activation"])
def test_an_input_that_was_never_seen_has_weight_zero(order: str):
    seen = torch.ones(COLUMNS).double()
    seen[[3, 20]] = 0
    found = swept(weight=100 * WEIGHT, cols=GRAM * torch.outer(seen, seen), order=order)
    assert float(found.piece.dense()[:, [3, 20]].abs().max()) == 0
    assert found.damping == 0


def test_inputs_that_depend_on_each_other_are_damped_and_it_is_said():
    tokens = normal(6, COLUMNS)
    found = swept(cols=tokens.T @ tokens)
    assert found.damping > 0
    assert bool(torch.isfinite(compact(found.piece).dense()).all())
    assert swept(damping=0.2).damping == 0.2


def test_single_columns_cannot_be_ordered_where_more_are_rounded_together():
    with pytest.raises(ValueError, match="one by one"):
        swept(Listening(TRITS, 8, None), order="activation")
