"""Statistics that merge in any order, and the metric made of them."""

import pytest
import torch

from drawn import gram, normal
from liptt_cli.algebra.metric import Look, Metric, along, clipped, metric, see, shrunk, times

INPUTS = normal(40, 6) * torch.arange(1, 7)


def whole():
    return see(INPUTS, Look(True))


@pytest.mark.parametrize("cut", [1, 17, 39])
def test_the_order_and_the_cut_of_batches_do_not_matter(cut):
    one, two = see(INPUTS[:cut].reshape(1, cut, 6), Look(True)), see(INPUTS[cut:], Look(True))
    for merged in (one + two, two + one):
        assert merged.tokens == 40
        torch.testing.assert_close(merged.gram, whole().gram)
        torch.testing.assert_close(merged.square, whole().square)


def test_what_is_seen_is_the_second_moment():
    seen = whole()
    torch.testing.assert_close(seen.gram, INPUTS.T @ INPUTS / 40)
    torch.testing.assert_close(seen.square, seen.gram.diagonal())
    assert (see(INPUTS, Look(False)) + seen).gram is None


@pytest.mark.parametrize("shrinkage", [0.0, 0.2, 1.0])
def test_the_full_metric_has_the_diagonal_one_on_its_diagonal(shrinkage):
    options = {"damping": 0.01, "shrinkage": shrinkage}
    full, diagonal = metric(whole(), "full", **options), metric(whole(), "diagonal", **options)
    torch.testing.assert_close(full.cols.diagonal(), diagonal.cols)
    torch.testing.assert_close(diagonal.cols.mean(), whole().square.mean() * 1.01)
    assert metric(whole(), "none", **options) == Metric()


def test_the_full_metric_needs_a_gram():
    with pytest.raises(ValueError, match="needs the gram"):
        metric(see(INPUTS, Look(False)), "full", damping=0.0, shrinkage=0.0)


def test_the_error_is_that_of_the_outputs():
    difference = normal(4, 6, seed=1)
    torch.testing.assert_close(Metric(cols=whole().gram).error(difference), (INPUTS @ difference.T).square().mean(0))
    torch.testing.assert_close(Metric().error(difference), difference.square().sum(1))


def test_a_diagonal_is_a_matrix_of_its_own():
    difference, rows, cols = normal(4, 6), normal(4, seed=1).abs(), normal(6, seed=2).abs()
    as_matrices = Metric(rows.diag(), cols.diag())
    torch.testing.assert_close(Metric(rows, cols).error(difference), as_matrices.error(difference))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_is_multiplied_from_the_left(axis):
    values = normal(3, 4, 5)
    matrix = normal(values.shape[axis], values.shape[axis], seed=1)
    names = "abc"
    expected = torch.einsum(f"z{names[axis]},abc->{names.replace(names[axis], 'z')}", matrix, values)
    torch.testing.assert_close(along(values, matrix, axis=axis), expected)
    moment = gram(values.shape[axis])
    torch.testing.assert_close(times(values, moment, axis=axis), along(values, moment, axis=axis))


@pytest.mark.parametrize("percentile", [50.0, 90.0])
def test_long_tokens_are_shortened_to_the_percentile_and_keep_their_direction(percentile):
    short = clipped(INPUTS, percentile)
    before, after = INPUTS.norm(dim=1), short.norm(dim=1)
    most = before.sort().values[round(percentile / 100 * 40) - 1]
    torch.testing.assert_close(after, before.clamp_max(most))
    torch.testing.assert_close(short / after.unsqueeze(1), INPUTS / before.unsqueeze(1))
    torch.testing.assert_close(see(INPUTS, Look(True, percentile)).gram, short.T @ short / 40)


def test_without_clipping_tokens_stay_what_they_are_and_zeros_are_no_trouble():
    assert clipped(INPUTS, 100.0) is INPUTS
    assert torch.equal(clipped(torch.zeros(3, 2), 50.0), torch.zeros(3, 2))
    assert clipped(INPUTS[:0], 50.0).shape == (0, 6)


def test_shrinkage_goes_all_the_way_to_the_mean():
    squares = normal(6).square()
    torch.testing.assert_close(shrunk(squares, damping=0.1, shrinkage=1.0), squares.mean().expand(6) * 1.1)
    assert torch.equal(shrunk(squares, damping=0.0, shrinkage=0.0), squares)
