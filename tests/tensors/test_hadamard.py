"""The Walsh-Hadamard transform against its matrix by recursion, its inverse, and shapes that are refused."""

import pytest
import torch

from drawn import normal
from liptt_cli.errors import ShapeError
from liptt_cli.forms.turned import hadamard_block
from liptt_cli.tensors.hadamard import hadamard


def matrix(block):
    found = torch.ones(1, 1, dtype=torch.float64)
    while len(found) < block:
        found = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), found)
    return found / block**0.5


@pytest.mark.parametrize(("channels", "block"), [(16, 16), (48, 16), (48, 4), (6, 2)])
def test_runs_are_multiplied_by_the_matrix(channels, block):
    values = normal(2, 3, channels)
    expected = torch.block_diag(*[matrix(block)] * (channels // block))
    torch.testing.assert_close(hadamard(values, block=block), values @ expected)


def test_it_is_its_own_inverse_and_keeps_lengths():
    values = normal(5, 64)
    turned = hadamard(values, block=64)
    torch.testing.assert_close(hadamard(turned, block=64), values)
    torch.testing.assert_close(turned.norm(dim=1), values.norm(dim=1))


def test_one_loud_channel_is_spread_over_all():
    values = torch.zeros(1, 32, dtype=torch.float64)
    values[0, 5] = 8.0
    torch.testing.assert_close(hadamard(values, block=32).abs(), torch.full((1, 32), 2**0.5, dtype=torch.float64))


@pytest.mark.parametrize(("channels", "block"), [(12, 8), (12, 3), (12, 6), (8, 1), (7, None), (7, 2)])
def test_runs_that_do_not_fit_are_refused(channels, block):
    with pytest.raises(ShapeError, match="a power of two that divides them"):
        hadamard_block(channels, block=block)


@pytest.mark.parametrize(("channels", "block"), [(12, 4), (192, 64), (11008, 256), (4096, 4096)])
def test_the_largest_run_is_chosen(channels, block):
    assert hadamard_block(channels, block=None) == block
