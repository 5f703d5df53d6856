"""Trits: five to a byte, and any byte is read."""

import pytest
import torch

from liptt_cli.packing.trits import pack_trits, unpack_trits


@pytest.mark.parametrize("columns", [1, 4, 5, 6, 128])
def test_what_was_packed_comes_back(columns):
    codes = torch.randint(0, 3, (2, 3, columns), generator=torch.Generator().manual_seed(columns), dtype=torch.uint8)
    packed = pack_trits(codes)
    assert packed.shape == (2, 3, -(-columns // 5))
    assert torch.equal(unpack_trits(packed, columns=columns), codes)


def test_the_first_trit_is_the_lowest_digit():
    assert pack_trits(torch.tensor([[2, 1, 0, 0, 0, 1]], dtype=torch.uint8)).tolist() == [[5, 1]]


def test_any_byte_gives_trits():
    found = unpack_trits(torch.arange(256, dtype=torch.uint8), columns=1280)
    assert found.max() == 2


def test_an_index_that_is_no_trit_is_refused():
    with pytest.raises(ValueError, match="index 3 is no trit"):
        pack_trits(torch.tensor([0, 3], dtype=torch.uint8))
