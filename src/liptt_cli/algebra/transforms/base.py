"""The contract of a transform: the coordinates in which a weight is encoded, chosen from the weight and its metric.

Laws: what a turn does to a weight, its `wrap` undoes; the error in the turned metric is the error in the old one.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.turn import Turn


@runtime_checkable
class Transform(Protocol):
    """Chooses a turn."""

    def fit(self, weight: Float[Tensor, "out in"], *, metric: Metric, generator: torch.Generator) -> Turn:
        """Return the turn of a weight; its numbers are those that will be stored.

        Raises:
            ShapeError: if the weight's channels do not divide as it needs.
        """
        ...
