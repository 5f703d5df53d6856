"""Angle between the student's and the teacher's block outputs, mean over tokens, blocks and windows.

    gap    1 - cos(h_student, h_teacher)
    log    -log((1 + cos) / 2), which goes on growing where the two point away from each other

Blind to the size of the states, so that a few channels of large numbers weigh no more than their share of a token's
direction (TernaryLLM, Chen et al. 2024, arXiv:2406.07177). Twice the gap is OneBit's squared distance of states of unit
norm (Xu et al. 2024, arXiv:2402.11295), which leaves the last block out; there it is summed over the blocks, here the
mean, so a weight of 1 there is one of 2 (blocks - 1) here. PTQ1.61 (arXiv:2502.13179) takes -log cos, which has no
value where cos is not positive.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.objectives.base import Trace, block_numbers
from liptt_cli.errors import ConfigError

_FLOOR = 1e-6  # of (1 + cos) / 2, and of a norm: a state of zeros has finite gradients


@dataclass(frozen=True)
class HiddenCosine:
    """The blocks from number `first` on, without the last one if `drop_last`."""

    weight: float = 1.0
    form: Literal["gap", "log"] = "gap"
    first: int = 0
    drop_last: bool = False
    kind: ClassVar[str] = "hidden_cosine"
    needs: ClassVar[frozenset[str]] = frozenset({"hidden"})

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the mean over the blocks that both traces hold.

        Raises:
            ConfigError: if none of them counts.
        """
        numbers = block_numbers(student, teacher)
        chosen = [b for b in (numbers[:-1] if self.drop_last else numbers) if b >= self.first]
        if not chosen:
            raise ConfigError(
                f"hidden_cosine needs the outputs of blocks from {self.first} on"
                f"{' without the last' if self.drop_last else ''}, and there are {len(numbers)} blocks"
            )
        return torch.stack([self._distance(student.hidden[b], teacher.hidden[b]) for b in chosen]).mean()

    def _distance(self, ours: Tensor, theirs: Tensor) -> Float[Tensor, ""]:
        dtype = torch.promote_types(ours.dtype, torch.float32)
        gap = (_direction(ours.to(dtype)) - _direction(theirs.detach().to(dtype))).square().sum(-1) / 2
        return gap.mean() if self.form == "gap" else -(1 - gap / 2).clamp_min(_FLOOR).log().mean()


def _direction(state: Float[Tensor, "windows tokens width"]) -> Float[Tensor, "windows tokens width"]:
    """Return states of unit norm: their squared distance loses no digits where the two are nearly one."""
    return torch.nn.functional.normalize(state, dim=-1, eps=_FLOOR)
