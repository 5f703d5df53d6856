"""The Haar wavelet of runs of channels: where neighbours are alike, their differences are small and cost little.

HBLLM (arXiv:2512.00862) turns each block of columns, or of rows, by one level before it is binarised.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.turn import Turn
from liptt_cli.formats.steps import Haar


@dataclass(frozen=True)
class HaarTransform:
    """On the inputs, the outputs or both, in runs of `block` channels."""

    side: Literal["in", "out", "both"] = "in"
    block: int = 128
    levels: int = 1

    def fit(self, weight: Float[Tensor, "out in"], *, metric: Metric, generator: torch.Generator) -> Turn:
        """Return the wavelet, whatever the weight."""
        return self.turn

    @property
    def turn(self) -> Turn:
        """Return the turn of every weight."""
        steps = (Haar(self.block, self.levels),)
        return Turn(steps if self.side != "in" else (), steps if self.side != "out" else ())
