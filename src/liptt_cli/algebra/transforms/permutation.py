"""The columns in another order, so that those that share scales are alike, or that the heaviest come first."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.orders import ORDERS
from liptt_cli.algebra.turn import Turn
from liptt_cli.formats.steps import Permutation


@dataclass(frozen=True)
class PermutationTransform:
    """An order of the columns by name; `group_columns` of them are to share scales."""

    by: Literal["similarity", "activation"] = "similarity"
    group_columns: int = 128

    def fit(self, weight: Float[Tensor, "out in"], *, metric: Metric, generator: torch.Generator) -> Turn:
        """Return the order."""
        return Turn(right=(Permutation(ORDERS[self.by](weight, metric, self.group_columns)),))
