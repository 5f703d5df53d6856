"""Squared error of the block outputs, mean over blocks and windows.

    normalised    ||h_student - h_teacher||^2 / ||h_teacher||^2     both norms over a whole window
    raw           mean over entries of (h_student - h_teacher)^2
    fisher        each entry's square times its weight, of mean 1: the teacher's squared gradients there

The norm is a window's and not a batch's, so that a loss does not depend on which windows share a batch.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.objectives.base import Trace, block_numbers


@dataclass(frozen=True)
class HiddenSquare:
    """Distance of the hidden states, relative to the teacher's if `normalise`; `fisher` needs the trace's weights."""

    weight: float = 1.0
    normalise: bool = True
    weights: Literal["none", "fisher"] = "none"
    kind: ClassVar[str] = "hidden_square"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the mean over the blocks that both traces hold."""
        numbers = block_numbers(student, teacher)
        return torch.stack([self._distance(student, teacher, b) for b in numbers]).mean()

    def _distance(self, student: Trace, teacher: Trace, b: int) -> Float[Tensor, ""]:
        ours, theirs = student.hidden[b], teacher.hidden[b]
        dtype = torch.promote_types(ours.dtype, torch.float32)
        target = theirs.detach().to(dtype)
        weights = _weights(teacher, b).to(target) if self.weights == "fisher" else None
        square = _weighted((ours.to(dtype) - target).square(), weights)
        if not self.normalise:
            return square.mean()
        energy = _weighted(target.square(), weights).sum((1, 2)).clamp_min(torch.finfo(dtype).tiny)
        return (square.sum((1, 2)) / energy).mean()


def _weighted(square: Tensor, weights: Tensor | None) -> Tensor:
    return square if weights is None else square * weights


def _weights(teacher: Trace, b: int) -> Float[Tensor, " width"]:
    weights = teacher.weights.get(b)
    if weights is None:
        raise ValueError(f"this objective needs squared gradients of block {b}, and the teacher's trace has none")
    return weights / weights.mean()
