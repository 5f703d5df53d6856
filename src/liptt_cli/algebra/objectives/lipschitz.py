"""Block-wise Lipschitz retention: a block of the student shall amplify as much as the teacher's.

    mean over blocks and windows of (log gain_student - log gain_teacher)^2

Three estimators of a block's gain, all at calibration points: self-attention has no global Lipschitz constant (Kim et
al. 2021, arXiv:2006.04710).

    retention         leading value of the corrected retention matrix (`tensors/retention.py`), each side measured on
                      its own stream; gradients reach what came into the block as well
    directional       both residual branches at the teacher's input, along the direction that the teacher's amplifies
                      most (`tensors/directional.py`)
    error_direction   the same along the student's own error there, h_student - h_teacher, at its own size: the factor
                      by which the block passes on what went wrong before; blocks that no error enters are left out

Two-sided, since a gain that is too small loses signal and one that is too large amplifies the error of all blocks
before; one-sided, only the second costs. The last two estimators run blocks once more, so they take one block a step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.objectives.base import Trace, block_numbers
from liptt_cli.errors import ConfigError
from liptt_cli.tensors.directional import stretch, worst_push
from liptt_cli.tensors.retention import Passage, Probe

_FLOOR = 1e-6  # added to gains, which are of order 1 in units of the teacher's rms: a dead block has finite gradients
_RETENTION_STEPS, _DIRECTIONAL_STEPS = 4, 1


@dataclass(frozen=True)
class Lipschitz:
    """Squared log ratio of the student's to the teacher's gain.

    `power_steps` None is 4 under retention and 1 otherwise; `blocks_each_step` None is all blocks under retention and
    one otherwise.
    """

    weight: float = 1.0
    power_steps: int | None = None
    positions: int = 512
    estimator: Literal["retention", "directional", "error_direction"] = "retention"
    sided: Literal["two", "one"] = "two"
    blocks_each_step: int | None = None
    kind: ClassVar[str] = "lipschitz"

    @property
    def needs(self) -> frozenset[str]:
        """Return what the estimator looks at."""
        return frozenset({"hidden"} if self.estimator == "retention" else {"hidden", "block"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the mean over the blocks whose input and output both traces hold, or over those drawn."""
        measure = self._retention if self.estimator == "retention" else self._along
        terms = []
        for b in self._blocks(student, teacher, generator):
            ours, theirs = measure(b, student, teacher, generator)
            ratio = (ours + _FLOOR).log() - (theirs + _FLOOR).log()
            terms.append((ratio if self.sided == "two" else ratio.clamp_min(0)).square().mean())
        return torch.stack(terms).mean()

    def _blocks(self, student: Trace, teacher: Trace, generator: torch.Generator) -> list[int]:
        numbers = block_numbers(student, teacher)
        if self.estimator == "error_direction":
            wrong = [b for b in numbers if not torch.equal(student.hidden[b - 1], teacher.hidden[b - 1])]
            numbers = wrong or numbers[:1]
        wanted = self.blocks_each_step or (len(numbers) if self.estimator == "retention" else 1)
        if wanted >= len(numbers):
            return numbers
        drawn = torch.randperm(len(numbers), generator=generator)[:wanted].sort().values
        return [numbers[index] for index in drawn.tolist()]

    def _retention(self, b: int, student: Trace, teacher: Trace, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        probe = Probe(self.power_steps or _RETENTION_STEPS, self.positions)
        ours, theirs = (Passage(trace.hidden[b - 1], trace.hidden[b]) for trace in (student, teacher))
        return probe.gains(ours, Passage(theirs.before.detach(), theirs.after.detach()), generator=generator)

    def _along(self, b: int, student: Trace, teacher: Trace, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ours, theirs = _branch(student, b), _branch(teacher, b)
        at = teacher.hidden[b - 1].detach()
        if self.estimator == "error_direction":
            push = student.hidden[b - 1].detach() - at
        else:
            _require_float32(at)
            push = worst_push(theirs, at, steps=self.power_steps or _DIRECTIONAL_STEPS, generator=generator)
        with torch.no_grad():
            reference = stretch(theirs, at, push)
        return stretch(ours, at, push), reference


def _branch(trace: Trace, number: int) -> Callable[[Tensor], Tensor]:
    """Return the residual branch of a block, its result in float32 at least."""
    block = trace.block
    if block is None:
        raise ValueError("this estimator needs to run a block, and the trace has none to run")

    def branch(hidden: Tensor) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        return block(number, hidden).to(dtype) - hidden.to(dtype)

    return branch


def _require_float32(hidden: Tensor) -> None:
    if torch.finfo(hidden.dtype).bits < 32:
        raise ConfigError(
            f"lipschitz: estimator directional compares outputs that differ by a hundredth, which {hidden.dtype} "
            "cannot hold; set load.dtype: float32, or estimator: error_direction or retention"
        )
