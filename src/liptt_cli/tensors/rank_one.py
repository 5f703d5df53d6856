"""The rank-one tensor nearest to a nonnegative one: one vector an axis.

Alternating least squares: the best vector of an axis for fixed others is a weighted contraction. With two
axes and no weights this is the power iteration of SVID (Xu et al. 2024, arXiv:2402.11295, on |W|). All
vectors are nonnegative where the values are.
"""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, " _length"]


def rank_one(
    values: Float[Tensor, "*axes"],
    *,
    free: Sequence[bool],
    iterations: int,
    weights: Sequence[Vector | None] | None = None,
) -> tuple[Vector, ...]:
    """Return vectors v_a that minimise `sum weights * (values - outer(v_0, v_1, ..))^2`.

    Args:
        values: nonnegative, of any order.
        free: the axes that have a vector of their own; that of the others is constant 1.
        iterations: rounds over the free axes.
        weights: one vector an axis, whose outer product weighs the entries; None is all ones.

    Returns:
        One vector an axis. The overall magnitude is in the last free axis longer than 1, or else in the first
        free one.
    """
    weights = weights or [None] * values.ndim
    vectors = [values.new_ones(length) for length in values.shape]
    long = [axis for axis in range(values.ndim) if free[axis] and values.shape[axis] > 1]
    for axis in long:
        vectors[axis] = values.mean([other for other in range(values.ndim) if other != axis])
    for axis in long * iterations:
        vectors[axis] = _best(values, vectors, weights, axis=axis)
    if not long:
        axis = list(free).index(True)
        vectors[axis] = _best(values, vectors, weights, axis=axis)
    return tuple(vectors)


def _best(values: Tensor, vectors: Sequence[Vector], weights: Sequence[Vector | None], *, axis: int) -> Vector:
    """Return the least-squares vector of one axis for fixed others."""
    others = [a for a in range(values.ndim) if a != axis and values.shape[a] > 1]
    weighted = {a: vectors[a] if (w := weights[a]) is None else vectors[a] * w for a in others}
    numerator = values.squeeze([a for a in range(values.ndim) if a != axis and a not in others])
    kept = sorted([*others, axis])
    for other in sorted(others, reverse=True):
        numerator = torch.tensordot(numerator, weighted[other], dims=([kept.index(other)], [0]))
        kept.remove(other)
    squares = prod(float(weighted[a] @ vectors[a]) for a in others)
    return numerator.reshape(-1) / max(squares, torch.finfo(values.dtype).tiny)
