"""Chains of cores (r_left, m, n, r_right) and the matrices that they stand for (Oseledets 2011)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Core = Float[Tensor, "_left _out _in _right"]


def contract(cores: Sequence[Core]) -> Float[Tensor, "left out in right"]:
    """Multiply neighbouring cores along their bond into one core, its modes row-major products.

    Whichever end is narrower is contracted first, since that keeps the intermediate small.
    """
    if cores[0].shape[0] <= cores[-1].shape[3]:
        merged = cores[0]
        for core in cores[1:]:
            merged = join(merged, core)
        return merged
    merged = cores[-1]
    for core in reversed(cores[:-1]):
        merged = join(core, merged)
    return merged


def join(left: Core, right: Core) -> Core:
    """Contract two neighbours along their common bond."""
    a, m, n, rank = left.shape
    _, p, q, b = right.shape
    product = left.reshape(a * m * n, rank) @ right.reshape(rank, p * q * b)
    return product.reshape(a, m, n, p, q, b).permute(0, 1, 3, 2, 4, 5).reshape(a, m * p, n * q, b)


def as_core(matrix: Float[Tensor, "left_out in_right"], *, left: int, right: int) -> Core:
    """View the stored matrix (r_left m, n r_right) as a core."""
    rows, columns = matrix.shape
    return matrix.reshape(left, rows // left, columns // right, right)


def as_matrix(core: Core) -> Float[Tensor, "left_out in_right"]:
    """View a core as the matrix (r_left m, n r_right) that is stored."""
    left, m, n, right = core.shape
    return core.reshape(left * m, n * right)


def identity_core(bond: int, *, like: Tensor) -> Core:
    """Return the empty chain on a bond: the unit core with modes 1."""
    return torch.eye(bond, dtype=like.dtype, device=like.device).reshape(bond, 1, 1, bond)


def to_modes(
    matrix: Float[Tensor, "out in"], *, out_modes: Sequence[int], in_modes: Sequence[int]
) -> Float[Tensor, "*modes"]:
    """Return the tensor of order d whose axis k runs over (out mode k, in mode k), row-major."""
    count = len(out_modes)
    order = [axis for k in range(count) for axis in (k, count + k)]
    paired = matrix.reshape(*out_modes, *in_modes).permute(order)
    return paired.reshape([m * n for m, n in zip(out_modes, in_modes, strict=True)])
