"""Scores: each by its formula on a small matrix, in its own unit, and refusing what it cannot know."""

import pytest
import torch

from drawn import gram, normal
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.scores import SCORES

VALUES = normal(4, 6)
SQUARES = normal(6, seed=1).square() + 0.1
PIVOT = normal(6, seed=2).abs() + 0.5
METRIC = Metric(cols=SQUARES, pivot=PIVOT)


def shares():
    sizes = VALUES.abs()
    return sizes / sizes.sum(1, keepdim=True) + sizes / sizes.sum(0)


EXPECTED = {
    "magnitude": VALUES.abs(),
    "obs": VALUES**2 / PIVOT**2,
    "wanda": VALUES.abs() * SQUARES**0.5,
    "relative": shares() * SQUARES**0.25,
    "standardised": (shares() - shares().mean()) / shares().std(1, keepdim=True, correction=0) * SQUARES**0.5,
}


def test_every_score_is_here():
    assert set(EXPECTED) == set(SCORES)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_score_is_its_formula(name):
    torch.testing.assert_close(SCORES[name](VALUES, METRIC), EXPECTED[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_unit_of_the_values_does_not_reorder(name):
    once, twice = (SCORES[name](each, METRIC).flatten().argsort() for each in (VALUES, 4 * VALUES))
    assert torch.equal(once, twice)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_whole_moment_counts_by_its_diagonal(name):
    whole = gram(6)
    both = [SCORES[name](VALUES, Metric(cols=cols, pivot=PIVOT)) for cols in (whole, whole.diagonal())]
    torch.testing.assert_close(*both)


def test_pivots_are_not_made_up():
    with pytest.raises(ValueError, match="a solver that sweeps"):
        SCORES["obs"](VALUES, Metric(cols=SQUARES))


def test_a_row_of_zeros_scores_nothing():
    values = VALUES.clone()
    values[2] = 0
    assert bool(torch.isfinite(SCORES["standardised"](values, METRIC)).all())
    assert not SCORES["relative"](values, METRIC)[2].any()
