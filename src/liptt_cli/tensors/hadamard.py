"""The Walsh-Hadamard transform of runs of channels, orthonormal, by butterflies: n log2(b) additions, no matrix.

H_1 = 1,   H_2b = [[H_b, H_b], [H_b, -H_b]] / sqrt(2)        symmetric, its own inverse (Sylvester's order)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.forms.turned import hadamard_block


def hadamard(values: Float[Tensor, "*lead n"], *, block: int) -> Float[Tensor, "*lead n"]:
    """Return each run of `block` entries of the last axis times the orthonormal matrix.

    Raises:
        ShapeError: if the runs are no power of two that divides the axis.
    """
    hadamard_block(values.shape[-1], block=block)
    found: Tensor = values * block**-0.5
    half = 1
    while half < block:
        pairs = found.unflatten(-1, (-1, 2, half))
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        found = torch.stack((first + second, first - second), dim=-2).flatten(-3)
        half *= 2
    return found
