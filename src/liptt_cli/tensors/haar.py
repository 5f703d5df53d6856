"""The Haar wavelet of runs of channels, orthonormal: sums and differences of neighbours over sqrt(2), level by level.

    low = (even + odd) / sqrt(2),   high = (even - odd) / sqrt(2),   and the same again of `low`

A run comes out as [low of the last level | its high | .. | high of the first level]. The last run may be shorter.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.forms.turned import check_haar

_ROOT_HALF = 0.5**0.5


def haar(values: Float[Tensor, "*lead n"], *, block: int, levels: int = 1) -> Float[Tensor, "*lead n"]:
    """Return the coefficients of each run of `block` entries of the last axis.

    Raises:
        ShapeError: if a run does not divide into the levels.
    """
    return _by_runs(values, _analysed, block=block, levels=levels)


def inverse_haar(coefficients: Float[Tensor, "*lead n"], *, block: int, levels: int = 1) -> Float[Tensor, "*lead n"]:
    """Return the values that have these coefficients, which is the transposed transform.

    Raises:
        ShapeError: if a run does not divide into the levels.
    """
    return _by_runs(coefficients, _synthesised, block=block, levels=levels)


def _by_runs(values: Tensor, change: Callable[[Tensor, int], Tensor], *, block: int, levels: int) -> Tensor:
    channels = values.shape[-1]
    check_haar(channels, block=block, levels=levels)
    whole = channels - channels % block
    runs = [values[..., :whole].unflatten(-1, (-1, block))] if whole else []
    runs += [values[..., whole:].unsqueeze(-2)] if whole < channels else []
    return torch.cat([change(run, levels).flatten(-2) for run in runs], dim=-1)


def _analysed(runs: Float[Tensor, "*lead runs block"], levels: int) -> Float[Tensor, "*lead runs block"]:
    low, bands = runs, []
    for _ in range(levels):
        even, odd = low[..., 0::2], low[..., 1::2]
        bands.append((even - odd) * _ROOT_HALF)
        low = (even + odd) * _ROOT_HALF
    return torch.cat([low, *reversed(bands)], dim=-1)


def _synthesised(runs: Float[Tensor, "*lead runs block"], levels: int) -> Float[Tensor, "*lead runs block"]:
    low = runs[..., : runs.shape[-1] >> levels]
    for _ in range(levels):
        count = low.shape[-1]
        high = runs[..., count : 2 * count]
        low = torch.stack(((low + high) * _ROOT_HALF, (low - high) * _ROOT_HALF), dim=-1).flatten(-2)
    return low
