"""Squared error of the block outputs, mean over blocks and windows.

    normalised    ||h_student - h_teacher||^2 / ||h_teacher||^2     both norms over a whole window
    raw           mean over entries of (h_student - h_teacher)^2

The norm is a window's and not a batch's, so that a loss does not depend on which windows share a batch.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.objectives.base import Trace, block_numbers


@dataclass(frozen=True)
class HiddenSquare:
    """Distance of the hidden states, relative to the teacher's if `normalise`."""

    weight: float = 1.0
    normalise: bool = True
    kind: ClassVar[str] = "hidden_square"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the mean over the blocks that both traces hold."""
        numbers = block_numbers(student, teacher)
        return torch.stack([self._distance(student.hidden[b], teacher.hidden[b]) for b in numbers]).mean()

    def _distance(self, ours: Tensor, theirs: Tensor) -> Float[Tensor, ""]:
        dtype = torch.promote_types(ours.dtype, torch.float32)
        target = theirs.detach().to(dtype)
        square = (ours.to(dtype) - target).square()
        if not self.normalise:
            return square.mean()
        energy = target.square().sum((1, 2)).clamp_min(torch.finfo(dtype).tiny)
        return (square.sum((1, 2)) / energy).mean()
