"""The Haar wavelet: known coefficients, an exact inverse, and lengths that are refused."""

import pytest
import torch

from drawn import normal
from liptt_cli.errors import ShapeError
from liptt_cli.tensors.haar import haar, inverse_haar


def test_one_level_is_sums_then_differences():
    found = haar(torch.tensor([[1.0, 3.0, 5.0, 5.0]]), block=4)
    torch.testing.assert_close(found * 2**0.5, torch.tensor([[4.0, 10.0, -2.0, 0.0]]))


def test_the_next_level_splits_the_sums():
    found = haar(torch.tensor([[1.0, 3.0, 5.0, 5.0]]), block=4, levels=2)
    torch.testing.assert_close(found, torch.tensor([[7.0, -3.0, -(2**0.5), 0.0]]))


@pytest.mark.parametrize(
    ("channels", "block", "levels"), [(16, 16, 4), (20, 8, 2), (12, 128, 2), (2, 2, 1), (40, 8, 3)]
)
def test_it_is_orthonormal_and_the_inverse_is_its_transpose(channels, block, levels):
    matrix = haar(torch.eye(channels, dtype=torch.float64), block=block, levels=levels).T
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(channels, dtype=torch.float64))
    values = normal(2, 3, channels)
    torch.testing.assert_close(inverse_haar(values, block=block, levels=levels), values @ matrix)
    back = inverse_haar(haar(values, block=block, levels=levels), block=block, levels=levels)
    torch.testing.assert_close(back, values)


def test_runs_do_not_mix():
    values = normal(1, 12)
    other = values.clone()
    other[:, :8] = 0
    torch.testing.assert_close(haar(values, block=8)[:, 8:], haar(other, block=8)[:, 8:])


def test_what_is_constant_has_no_differences():
    assert not haar(torch.ones(3, 24), block=8, levels=3)[:, 1:8].any()


@pytest.mark.parametrize(("channels", "block", "levels"), [(7, 8, 1), (10, 8, 2), (16, 6, 2), (12, 8, 3)])
def test_lengths_that_do_not_divide_are_refused(channels, block, levels):
    with pytest.raises(ShapeError, match="levels of the Haar wavelet do not fit a run of"):
        haar(normal(2, channels), block=block, levels=levels)
