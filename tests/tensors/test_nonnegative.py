"""Thin nonnegative products: near to the truncated SVD, exact where they can be, weighed, and of no scale."""

import pytest
import torch

from drawn import normal
from liptt_cli.tensors.nonnegative import nonnegative


def product(values, **more):
    u, v = nonnegative(values, **more)
    assert u.min() >= 0
    assert v.min() >= 0
    return u.T @ v


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_is_nearly_as_near_as_the_truncated_svd(rank):
    values = (normal(40, 60) + 0.5 * normal(40, 1, seed=1) * normal(1, 60, seed=2)).abs()
    singular = torch.linalg.svdvals(values)
    least = singular[rank:].square().sum().sqrt()
    error = (values - product(values, rank=rank, iterations=30)).norm()
    assert least <= error <= 1.03 * least


def test_a_product_of_two_terms_nearly_comes_back():
    values = normal(12, 2).abs() @ normal(2, 9, seed=1).abs()
    assert (product(values, rank=2, iterations=400) - values).norm() < 0.02 * values.norm()


def test_more_terms_than_needed_are_harmless_and_zeros_stay_zeros():
    values = normal(5, 1).abs() @ normal(1, 7, seed=1).abs()
    torch.testing.assert_close(product(values, rank=3, iterations=20), values)
    assert not product(torch.zeros(4, 6), rank=2, iterations=3).any()


def test_weights_pull_the_fit_to_where_they_look():
    values, weights = normal(20, 30).abs(), (normal(20, seed=1).exp(), (2 * normal(30, seed=2)).exp())

    def error(found):
        return float((weights[0].unsqueeze(1) * weights[1] * (values - found).square()).sum())

    weighed = product(values, rank=2, iterations=40, weights=weights)
    assert error(weighed) < 0.9 * error(product(values, rank=2, iterations=40))


def test_twice_the_values_are_twice_the_product():
    values = normal(6, 8).abs()
    torch.testing.assert_close(product(2 * values, rank=2, iterations=5), 2 * product(values, rank=2, iterations=5))
