"""Block-wise Lipschitz retention: a block of the student shall amplify as much as the teacher's.

    mean over blocks and windows of (log gain_student - log gain_teacher)^2

The gain is the leading value of the block's corrected retention matrix (`tensors/retention.py`), at calibration points:
self-attention has no global Lipschitz constant (Kim et al. 2021, arXiv:2006.04710). Two-sided, since a gain that is too
small loses signal and one that is too large amplifies the error of all blocks before. Each side is measured on its own
stream, and gradients reach what came into the block as well.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.objectives.base import Trace, block_numbers
from liptt_cli.tensors.retention import Passage, Probe

_FLOOR = 1e-6  # added to gains, which are of order 1 in units of the teacher's rms: a dead block has finite gradients


@dataclass(frozen=True)
class Lipschitz:
    """Squared log ratio of the student's to the teacher's gain."""

    weight: float = 1.0
    power_steps: int = 4
    positions: int = 512
    kind: ClassVar[str] = "lipschitz"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the mean over the blocks whose input and output both traces hold."""
        probe = Probe(self.power_steps, self.positions)
        terms = []
        for b in block_numbers(student, teacher):
            ours, theirs = (Passage(trace.hidden[b - 1], trace.hidden[b]) for trace in (student, teacher))
            gains = probe.gains(ours, Passage(theirs.before.detach(), theirs.after.detach()), generator=generator)
            terms.append(((gains[0] + _FLOOR).log() - (gains[1] + _FLOOR).log()).square().mean())
        return torch.stack(terms).mean()
