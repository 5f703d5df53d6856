"""Three-valued indices to bytes and back: five to a byte, sum_i t_i 3^i, each row padded to a byte.

3^5 = 243 of 256 values: 1.6 bits an index, where two bits would cost a quarter more.
"""

import torch
from jaxtyping import UInt8
from torch import Tensor

from liptt_cli.forms.base import TRITS_A_BYTE

_PLACES = tuple(3**place for place in range(TRITS_A_BYTE))


def pack_trits(codes: UInt8[Tensor, "*lead columns"]) -> UInt8[Tensor, "*lead row_bytes"]:
    """Pack indices 0, 1, 2 along the last axis.

    Raises:
        ValueError: if an index is larger.
    """
    if codes.numel() and int(codes.max()) > 2:
        raise ValueError(f"index {int(codes.max())} is no trit")
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % TRITS_A_BYTE)).unflatten(-1, (-1, TRITS_A_BYTE))
    packed: Tensor = (padded * torch.tensor(_PLACES, dtype=torch.uint8, device=codes.device)).sum(-1, dtype=torch.uint8)
    return packed


def unpack_trits(packed: UInt8[Tensor, "*lead row_bytes"], *, columns: int) -> UInt8[Tensor, "*lead columns"]:
    """Return the indices that `pack_trits` packed; any byte gives indices, and the padding of a row is ignored."""
    places = torch.tensor(_PLACES, dtype=torch.uint8, device=packed.device)
    digits = torch.div(packed.unsqueeze(-1), places, rounding_mode="floor") % 3
    return digits.flatten(-2)[..., :columns].to(torch.uint8)
