"""Indices of any width to bytes and back."""

import pytest
import torch

from drawn import seeded
from liptt_cli.packing.bits import pack_indices, unpack_indices


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("columns", [1, 7, 8, 9, 33])
def test_round_trip(bits, columns):
    codes = torch.randint(0, 2**bits, (2, 3, columns), generator=seeded(bits), dtype=torch.uint8)
    packed = pack_indices(codes, bits=bits)
    assert packed.shape == (2, 3, -(-columns * bits // 8))
    assert torch.equal(unpack_indices(packed, columns=columns, bits=bits), codes)


@pytest.mark.parametrize("bits", [9, 12, 15, 31])
def test_wide_indices_are_held_in_int32(bits):
    numbers = torch.randint(0, 2**bits, (3, 5), generator=seeded(bits), dtype=torch.int32)
    packed = pack_indices(numbers, bits=bits)
    assert packed.shape == (3, -(-5 * bits // 8))
    assert torch.equal(unpack_indices(packed, columns=5, bits=bits), numbers)


def test_an_index_too_wide_is_refused():
    with pytest.raises(ValueError, match="index 2 does not fit 1 bits"):
        pack_indices(torch.tensor([[0, 2]], dtype=torch.uint8), bits=1)
