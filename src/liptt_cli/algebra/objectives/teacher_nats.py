"""Divergence of the student's next-token distribution from the teacher's (Hinton et al. 2015, arXiv:1503.02531).

The loss is T^2 KL(softmax(t / T) || softmax(s / T)), mean over positions, in nats.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div

from liptt_cli.algebra.objectives.base import Trace, logits_of


@dataclass(frozen=True)
class TeacherNats:
    """Kullback-Leibler divergence at a temperature."""

    weight: float = 1.0
    temperature: float = 1.0
    kind: ClassVar[str] = "teacher_nats"
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the divergence; each token's terms are summed before the mean over positions."""
        ours, theirs = ((logits_of(t) / self.temperature).log_softmax(-1).flatten(0, 1) for t in (student, teacher))
        return kl_div(ours, theirs.detach(), reduction="batchmean", log_target=True) * self.temperature**2
