"""The whole columns of largest score: a share of them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.masks.base import Fixed
from liptt_cli.formats.pieces import Told
from liptt_cli.forms.zones import share_count


@dataclass(frozen=True)
class TopColumns:
    """Zone 1 is the `share` of columns whose scores have the largest sum, or root of the sum of squares."""

    share: float
    norm: Literal[1, 2] = 1
    zones: int = 2
    run: int = 1

    def told(self, columns: int) -> Told:
        """Return a label for each column."""
        return "column"

    def propose(self, score: Float[Tensor, "out some"], *, where: Bool[Tensor, "out some"] | None = None) -> Fixed:
        """Return the one choice."""
        sums = column_scores(score, self.norm, where=where)
        columns = sums.topk(share_count(self.share, len(sums))).indices
        labels = torch.zeros_like(sums, dtype=torch.uint8).index_fill(0, columns, 1)
        return Fixed(labels.expand(score.shape), where)


def column_scores(
    score: Float[Tensor, "out some"], norm: Literal[1, 2], *, where: Bool[Tensor, "out some"] | None
) -> Float[Tensor, " some"]:
    """Return one score for each column: the norm of the scores of its entries in `where`."""
    counted = score if where is None else torch.where(where, score, 0)
    found: Tensor = torch.linalg.vector_norm(counted, ord=norm, dim=0)
    return found
