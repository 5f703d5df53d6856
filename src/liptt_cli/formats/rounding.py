"""The roundings of the packed format: scales to float16, values to the levels of an alphabet, numbers to indices."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.forms.leaves import Alphabet


def to_half(scale: Float[Tensor, "*shape"], name: str) -> Float[Tensor, "*shape"]:
    """Round a scale to the float16 that the file holds.

    Raises:
        IntegrityError: if it is not finite there.
    """
    half = scale.detach().to(torch.float16)
    if not torch.isfinite(half).all():
        worst = scale.detach().abs().max().item()
        raise IntegrityError(f"{name}: a scale of magnitude {worst:g} does not fit float16 (at most 65504)")
    return half


def index_dtype(bits: int) -> torch.dtype:
    """Return what holds indices of so many bits outside of a file: bytes, or int32 where a byte is too short."""
    return torch.uint8 if bits <= torch.iinfo(torch.uint8).bits else torch.int32


def nearest(values: Float[Tensor, "*shape"], alphabet: Alphabet) -> UInt8[Tensor, "*shape"]:
    """Return the index of the nearest level of unit-scale values; of two equally near, the upper.

    `sign` has the levels -1, +1, so zero goes to +1.
    """
    if alphabet != "sign":
        raise ValueError(f"no such alphabet: {alphabet}")
    return (values >= 0).to(torch.uint8)


def levels(codes: Tensor, *, alphabet: Alphabet, dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Return the numbers behind codes: uint8 indices are looked up, floats are levels already."""
    if codes.dtype != torch.uint8:
        return codes.to(dtype)
    if alphabet != "sign":
        raise ValueError(f"no such alphabet: {alphabet}")
    return codes.to(dtype) * 2 - 1
