"""The tensor train of a tensor by successive truncated SVDs (Oseledets 2011, algorithm 1).

    T(p_1, .., p_d) ~ G_1 G_2 .. G_d,  core k of shape (r_{k-1}, p_k, r_k)
    |T - train|^2 <= sum of the squares of all singular values dropped

Deviation: the algorithm leaves all of the magnitude in the last core; here each bond carries the root of its
singular values on either side (balanced bonds), so that the cores are alike before they are encoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TrainCore = Float[Tensor, "_left _mode _right"]


@dataclass(frozen=True)
class TensorTrain:
    """A train and the bound that its truncation keeps."""

    cores: tuple[TrainCore, ...]
    dropped_square: float


def tt_svd(tensor: Float[Tensor, "*modes"], *, ranks: Sequence[int]) -> TensorTrain:
    """Split a tensor into a balanced train.

    Args:
        tensor: order d, modes (p_1, .., p_d).
        ranks: d - 1 inner ranks; each is lowered to what its unfolding allows, which the cores show.

    Returns:
        d cores, the outer ranks being 1, and the squared error bound.

    Raises:
        ValueError: if there are not d - 1 ranks, or one is below 1.
    """
    if len(ranks) != tensor.ndim - 1 or min(ranks, default=1) < 1:
        raise ValueError(f"a tensor of order {tensor.ndim} needs {tensor.ndim - 1} ranks from 1 up, not {list(ranks)}")
    cores, dropped = [], 0.0
    rest, left, root = tensor.reshape(1, -1), 1, tensor.new_ones(1)
    for mode, rank in zip(tensor.shape, ranks, strict=False):
        u, s, v = torch.linalg.svd(rest.reshape(left * mode, -1), full_matrices=False)
        dropped += float(s[rank:].square().sum())
        u, s, v = u[:, :rank], s[:rank], v[:rank]
        core = u.reshape(left, mode, -1) / root.reshape(-1, 1, 1)
        rest, left, root = s.unsqueeze(1) * v, len(s), _root(s)
        cores.append(core * root)
    cores.append((rest / root.unsqueeze(1)).reshape(left, tensor.shape[-1], 1))
    return TensorTrain(tuple(cores), dropped)


def _root(singular: Float[Tensor, " rank"]) -> Float[Tensor, " rank"]:
    """Return the roots; a vanishing value counts as the smallest that can be told from rounding."""
    least = singular[0] * torch.finfo(singular.dtype).eps
    return singular.clamp_min(float(least)).clamp_min(torch.finfo(singular.dtype).tiny).sqrt()
