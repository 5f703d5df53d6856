"""Divergence of the student's next-token distribution from the teacher's (Hinton et al. 2015, arXiv:1503.02531).

The loss is T^2 KL(softmax(t / T) || softmax(s / T)), mean over positions, in nats. With an `entropy_power` p the mean
is weighed, so that tokens count more about which the two are unsure:

    w = ((H(teacher) + H(student)) / (2 log V))^p,    mean over windows of sum w KL / sum w,    w without gradient

the idea of DB-LLM's deviation-aware distillation (Chen et al. 2024, arXiv:2402.11960), whose formula and coefficients
we did not find; this one is ours. Beside a plain term, as two objectives of a list, it has a balance too.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div

from liptt_cli.algebra.objectives.base import Trace, logits_of

_LEAST = 1e-6  # of an entropy over the largest one: two that are sure of everything still weigh something


@dataclass(frozen=True)
class TeacherNats:
    """Kullback-Leibler divergence at a temperature."""

    weight: float = 1.0
    temperature: float = 1.0
    entropy_power: float = 0.0
    kind: ClassVar[str] = "teacher_nats"
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the divergence; each token's terms are summed before the mean over positions."""
        ours, theirs = ((logits_of(t) / self.temperature).log_softmax(-1) for t in (student, teacher))
        theirs, square = theirs.detach(), self.temperature**2
        if not self.entropy_power:
            divergence = kl_div(ours.flatten(0, 1), theirs.flatten(0, 1), reduction="batchmean", log_target=True)
            return divergence * square
        nats = kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        unsure = (_entropy(ours.detach()) + _entropy(theirs)) / (2 * math.log(ours.shape[-1]))
        shares = unsure.clamp_min(_LEAST).pow(self.entropy_power)
        return ((shares * nats).sum(1) / shares.sum(1)).mean() * square


def _entropy(logs: Float[Tensor, "windows tokens vocabulary"]) -> Float[Tensor, "windows tokens"]:
    return -(logs.exp() * logs).sum(-1)
