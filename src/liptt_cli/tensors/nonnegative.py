"""The product of two thin nonnegative matrices nearest to a nonnegative one.

    A ~ sum_l outer(u_l, v_l),  u, v >= 0,  least sum w_i c_j (A - ..)_ij^2

Hierarchical alternating least squares (Cichocki et al. 2007): the best nonnegative u_l for all else fixed is a clipped
contraction. It starts from the rank-one fit and the parts of one sign of what that leaves over (NNDSVD, Boutsidis and
Gallopoulos 2008), so the same values always give the same product and twice the values twice of it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.tensors.rank_one import rank_one

_POWER_STEPS = 4


def nonnegative(
    values: Float[Tensor, "a b"],
    *,
    rank: int,
    iterations: int,
    weights: Sequence[Tensor | None] = (None, None),
) -> tuple[Float[Tensor, "rank a"], Float[Tensor, "rank b"]]:
    """Return (u, v), rows and columns of each term of the same size.

    Args:
        values: nonnegative.
        rank: the number of terms; beyond what the values need, terms are zero.
        iterations: rounds over all terms.
        weights: one vector an axis, whose outer product weighs the entries; None is all ones.
    """
    rows, cols = _start(values, rank=rank, weights=weights)
    for _ in range(iterations):
        by_column = _weighted(cols, weights[1])
        _improve(rows, values @ by_column.T, cols @ by_column.T)
        by_row = _weighted(rows, weights[0])
        _improve(cols, values.T @ by_row.T, rows @ by_row.T)
    return _even(rows, cols)


def _start(
    values: Float[Tensor, "a b"], *, rank: int, weights: Sequence[Tensor | None]
) -> tuple[Float[Tensor, "rank a"], Float[Tensor, "rank b"]]:
    u, v = rank_one(values, free=(True, True), iterations=_POWER_STEPS, weights=weights)
    rows, cols = [u], [v]
    for _ in range(rank - 1):
        rest = values - torch.stack(rows).T @ torch.stack(cols)
        u, v = _one_sign(rest)
        rows.append(u)
        cols.append(v)
    return torch.stack(rows), torch.stack(cols)


def _one_sign(rest: Float[Tensor, "a b"]) -> tuple[Float[Tensor, " a"], Float[Tensor, " b"]]:
    """Return the larger part of one sign of the leading singular pair, which starts at the largest row."""
    tiny = torch.finfo(rest.dtype).tiny
    v = rest[int(rest.square().sum(1).argmax())]
    u = rest @ v
    for _ in range(_POWER_STEPS):
        v = rest.T @ (u / u.norm().clamp_min(tiny))
        u = rest @ (v / v.norm().clamp_min(tiny))
    v = v / v.norm().clamp_min(tiny)
    pairs = [(u.clamp_min(0), v.clamp_min(0)), ((-u).clamp_min(0), (-v).clamp_min(0))]
    return max(pairs, key=lambda pair: float(pair[0].norm() * pair[1].norm()))


def _improve(
    terms: Float[Tensor, "rank length"], right: Float[Tensor, "length rank"], normal: Float[Tensor, "rank rank"]
) -> None:
    """Give each term its best nonnegative values, in place, the others fixed."""
    for number in range(len(terms)):
        square = normal[number, number]
        if float(square) > 0:
            others = normal[number] @ terms - square * terms[number]
            terms[number] = ((right[:, number] - others) / square).clamp_min(0)


def _weighted(terms: Float[Tensor, "rank length"], weight: Tensor | None) -> Float[Tensor, "rank length"]:
    return terms if weight is None else terms * weight


def _even(
    rows: Float[Tensor, "rank a"], cols: Float[Tensor, "rank b"]
) -> tuple[Float[Tensor, "rank a"], Float[Tensor, "rank b"]]:
    """Return the same products with rows and columns of the same size, so that both fit float16."""
    sizes = [terms.abs().mean(1, keepdim=True) for terms in (rows, cols)]
    share = torch.where((sizes[0] > 0) & (sizes[1] > 0), (sizes[1] / sizes[0].clamp_min(1e-30)).sqrt(), 1.0)
    return rows * share, cols / share
