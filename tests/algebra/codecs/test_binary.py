"""Signs under a rank-one magnitude: signs kept, magnitudes least-squares, and vectors that a chain can take."""

import pytest
import torch

from drawn import normal
from liptt_cli.algebra.codecs.base import Axes
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.metric import Metric

VALUES = normal(6, 8)


def test_signs_are_the_values_own_and_zero_is_plus_one():
    values = VALUES.clone()
    values[0, 0] = 0
    codes = BinaryCodec().fit(values, metric=Metric()).round(values).codes[0]
    assert torch.equal(codes.bool(), values >= 0)


@pytest.mark.parametrize(("scale", "axis"), [(("row",), 1), (("column",), 0)])
def test_one_side_is_the_mean_magnitude(scale, axis):
    fit = BinaryCodec(scale).fit(VALUES, metric=Metric())
    expected = VALUES.abs().mean(axis, keepdim=True) * VALUES.sign()
    torch.testing.assert_close(fit.round(VALUES).dense(torch.float64), expected)


def test_rows_alone_are_weighted_by_the_diagonal_of_a_metric():
    cols = normal(8, seed=1).abs()
    expected = ((VALUES.abs() @ cols) / cols.sum()).unsqueeze(1) * VALUES.sign()
    for moment in (cols, cols.diag()):
        fit = BinaryCodec(("row",)).fit(VALUES, metric=Metric(cols=moment))
        torch.testing.assert_close(fit.round(VALUES).dense(torch.float64), expected)


@pytest.mark.parametrize("lengths", [(1, 6, 8, 1), (2, 3, 4, 2), (6, 1, 1, 8), (3, 2, 1, 8)])
@pytest.mark.parametrize("scaled", [(True,) * 4, (False, True, True, False), (False, True, False, False)])
def test_bare_codes_times_the_vectors_are_the_rounded_values(lengths, scaled):
    fit = BinaryCodec().fit(VALUES, metric=Metric(), axes=Axes(lengths, scaled))
    left, out, into, right = fit.vectors
    envelope = torch.outer(torch.kron(left, out), torch.kron(into, right))
    whole, bare = fit.round(VALUES).dense(torch.float64), fit.bare(VALUES).dense(torch.float64)
    torch.testing.assert_close(whole, envelope * bare)
    assert bool((bare.abs() == 1).all())
    assert [len(v) for v in fit.vectors] == list(lengths)


@pytest.mark.parametrize("weights", [None, normal(8, seed=1).abs()])
def test_a_scale_a_group_is_the_weighed_mean_of_each_rows_run_of_columns(weights):
    fit = BinaryCodec(("group",), group_columns=3).fit(VALUES, metric=Metric(cols=weights))
    grid = fit.round(VALUES)
    share = torch.ones(8, dtype=VALUES.dtype) if weights is None else weights
    assert grid.form.scale is not None and grid.form.scale.to_json() == {
        **{"rank": 1, "rows": 6, "group_columns": 3, "cols": False}
    }
    for start in (0, 3, 6):
        run = slice(start, start + 3)
        expected = (VALUES[:, run].abs() * share[run]).sum(1, keepdim=True) / share[run].sum() * VALUES[:, run].sign()
        torch.testing.assert_close(grid.dense(torch.float64)[:, run], expected)
    assert torch.equal(fit.magnitude, grid.dense(torch.float64).abs())


def test_a_group_that_weighs_nothing_has_the_plain_mean():
    cols = torch.tensor([1.0, 1, 1, 1, 1, 1, 0, 0], dtype=VALUES.dtype)
    fit = BinaryCodec(("group",), group_columns=3).fit(VALUES, metric=Metric(cols=cols))
    torch.testing.assert_close(fit.magnitude[:, 6], VALUES[:, 6:].abs().mean(1))
