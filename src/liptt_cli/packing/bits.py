"""Indices of a few bits to bytes and back: least significant bit first, each row padded to a byte."""

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from liptt_cli.formats.rounding import index_dtype


def pack_indices(
    codes: UInt8[Tensor, "*lead columns"] | Int32[Tensor, "*lead columns"], *, bits: int
) -> UInt8[Tensor, "*lead row_bytes"]:
    """Pack `bits`-wide indices densely along the last axis.

    Raises:
        ValueError: if an index does not fit its bits.
    """
    if codes.numel() and int(codes.max()) >> bits:
        raise ValueError(f"index {int(codes.max())} does not fit {bits} bits")
    places = torch.arange(bits, dtype=codes.dtype, device=codes.device)
    stream = ((codes.unsqueeze(-1) >> places) & 1).to(torch.uint8).flatten(-2)
    stream = torch.nn.functional.pad(stream, (0, -stream.shape[-1] % 8)).unflatten(-1, (-1, 8))
    packed: Tensor = (stream << torch.arange(8, dtype=torch.uint8, device=codes.device)).sum(-1, dtype=torch.uint8)
    return packed


def unpack_indices(
    packed: UInt8[Tensor, "*lead row_bytes"], *, columns: int, bits: int
) -> UInt8[Tensor, "*lead columns"] | Int32[Tensor, "*lead columns"]:
    """Return the indices that `pack_indices` packed; the padding of a row is ignored."""
    stream = (packed.unsqueeze(-1) >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
    stream = stream.flatten(-2)[..., : columns * bits]
    if bits == 1:
        return stream
    dtype = index_dtype(bits)
    places = torch.arange(bits, dtype=dtype, device=packed.device)
    codes: Tensor = (stream.to(dtype).unflatten(-1, (columns, bits)) << places).sum(-1, dtype=dtype)
    return codes
