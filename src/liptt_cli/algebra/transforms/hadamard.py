"""Random signs and a Walsh-Hadamard transform: every new channel is a sum of many old ones, so none stands out.

QuIP# (Tseng et al. 2024, arXiv:2402.04396) does it on both sides, QuaRot (Ashkboos et al. 2024, arXiv:2404.00456) on
the inputs. Here the run is the largest power of two that divides the channels, or one named, and nothing is folded into
other layers.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.turn import Turn
from liptt_cli.formats.steps import Hadamard, Signs
from liptt_cli.formats.turned import Steps
from liptt_cli.forms.turned import hadamard_block

Side = Literal["in", "out", "both"]


@dataclass(frozen=True)
class HadamardTransform:
    """On the inputs, the outputs or both; without `signs` nothing is stored."""

    side: Side = "in"
    block: int | None = None
    signs: bool = True

    def fit(self, weight: Float[Tensor, "out in"], *, metric: Metric, generator: torch.Generator) -> Turn:
        """Return signs of the generator and the transform."""
        rows, columns = weight.shape
        left = self._steps(rows, generator) if self.side in ("out", "both") else ()
        right = self._steps(columns, generator) if self.side in ("in", "both") else ()
        return Turn(left, right)

    def _steps(self, channels: int, generator: torch.Generator) -> Steps:
        step = Hadamard(hadamard_block(channels, block=self.block))
        if not self.signs:
            return (step,)
        signs = torch.randint(0, 2, (channels,), generator=generator, dtype=torch.uint8)
        return Signs(signs), step
