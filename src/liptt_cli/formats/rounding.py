"""The roundings of the packed format: scales to float16, values to the levels of an alphabet, numbers to indices."""

from itertools import product

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from liptt_cli.errors import IntegrityError
from liptt_cli.forms.alphabets import ALPHABETS, Alphabet


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
    """Return the index of the nearest level of unit-scale values.

    `sign` has the levels -1, +1, and zero goes to +1; elsewhere halves go to the even index.
    """
    if alphabet == "sign":
        return (values >= 0).to(torch.uint8)
    known = ALPHABETS[alphabet]
    return ((values - known.first) / known.step).round().clamp(0, known.count - 1).to(torch.uint8)


def nearest_planes(
    values: Float[Tensor, "a b"], scales: Float[Tensor, "planes _a _b"], alphabet: Alphabet
) -> UInt8[Tensor, "planes a b"]:
    """Return the indices whose levels, each times its plane's scale, add up nearest to the values.

    Every combination of levels is tried where there are several planes; of two equally near the first one stays.
    """
    if len(scales) == 1:
        scale = scales[0]
        codes = nearest(values / torch.where(scale == 0, torch.ones_like(scale), scale), alphabet)
        return codes.expand(values.shape).unsqueeze(0).clone()
    known = ALPHABETS[alphabet]
    best = torch.full_like(values, torch.inf)
    found = torch.zeros(len(scales), *values.shape, dtype=torch.uint8, device=values.device)
    for indices in reversed(list(product(range(known.count), repeat=len(scales)))):
        total = sum(scale * (known.first + known.step * index) for scale, index in zip(scales, indices, strict=True))
        error = (values - total).abs()
        nearer = error < best
        best = torch.where(nearer, error, best)
        for plane, index in zip(found, indices, strict=True):
            plane[nearer] = index
    return found


def levels(codes: Tensor, *, alphabet: Alphabet, dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Return the numbers behind codes: uint8 indices are looked up, floats are levels already."""
    if codes.dtype != torch.uint8:
        return codes.to(dtype)
    known = ALPHABETS[alphabet]
    return codes.to(dtype) * known.step + known.first


def indices(codes: Tensor, alphabet: Alphabet) -> UInt8[Tensor, "*shape"]:
    """Return levels as indices; indices stay."""
    return codes if codes.dtype == torch.uint8 else nearest(codes.detach(), alphabet)
