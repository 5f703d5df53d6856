"""The rank-one fit against the leading singular pair, weights against brute force, and axes held fixed."""

import pytest
import torch

from drawn import normal
from liptt_cli.tensors.rank_one import rank_one


def test_two_axes_without_weights_give_the_leading_singular_pair():
    values = normal(7, 9).abs()
    u, v = rank_one(values, free=(True, True), iterations=40)
    left, singular, right = torch.linalg.svd(values)
    torch.testing.assert_close(torch.outer(u, v), singular[0] * torch.outer(left[:, 0], right[0]))


def test_weights_give_the_least_weighted_error():
    values, rows, cols = normal(6, 8).abs(), normal(6, seed=1).abs(), normal(8, seed=2).abs()
    u, v = rank_one(values, free=(True, True), iterations=60, weights=(rows, cols))
    roots = rows.sqrt().unsqueeze(1) * cols.sqrt()
    left, singular, right = torch.linalg.svd(values * roots)
    torch.testing.assert_close(roots * torch.outer(u, v), singular[0] * torch.outer(left[:, 0], right[0]))


def test_a_product_of_four_axes_comes_back_exactly():
    vectors = [normal(n, seed=n).abs() for n in (3, 4, 5, 2)]
    values = torch.einsum("a,b,c,d->abcd", *vectors)
    found = rank_one(values, free=(True,) * 4, iterations=3)
    torch.testing.assert_close(torch.einsum("a,b,c,d->abcd", *found), values)


@pytest.mark.parametrize("shape", [(3, 4, 1, 5), (1, 6, 1, 3), (2, 1, 1, 3), (1, 5, 4, 1)])
def test_axes_held_fixed_stay_ones_and_the_rest_is_the_mean(shape):
    values = normal(*shape).abs()
    found = rank_one(values, free=(False, True, False, False), iterations=2)
    assert all(bool((found[a] == 1).all()) for a in (0, 2, 3))
    torch.testing.assert_close(found[1], values.mean((0, 2, 3)))


def test_nothing_gives_nothing():
    u, v = rank_one(torch.zeros(3, 4), free=(True, True), iterations=4)
    assert not u.any()
    assert bool(torch.isfinite(v).all())
