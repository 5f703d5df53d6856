"""The search for salient columns: the first i columns by score against the rest, for i = 1, 2, .. (BiLLM, 2402.04291).

The columns are put in order once, so that each candidate's zones are the two sides of a cut; nothing is gathered again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from liptt_cli.algebra.masks.base import Trial, trial_errors
from liptt_cli.algebra.masks.top_columns import column_scores
from liptt_cli.formats.pieces import Told


@dataclass(frozen=True)
class Cuts:
    """Candidate k has the first `least + k` columns of `order` in zone 1."""

    order: Int64[Tensor, " some"]
    where: Bool[Tensor, "out some"] | None
    rows: int
    least: int
    count: int

    def labels(self, choice: Int64[Tensor, " _rows"]) -> UInt8[Tensor, "out some"]:
        """Return the columns before the cut as zone 1."""
        place = self.order.argsort()
        return (place < self.least + choice.unsqueeze(1)).to(torch.uint8).expand(self.rows, -1)

    def errors(self, values: Float[Tensor, "out some"], trials: Sequence[Trial]) -> Float[Tensor, "count out"]:
        """Return the errors of both sides of each cut."""
        ordered = values.T[self.order]
        where = None if self.where is None else self.where.T[self.order]
        found = values.new_empty(self.count, len(values))
        for number in range(self.count):
            cut = self.least + number
            sides = ((slice(cut, None), trials[0]), (slice(cut), trials[1]))
            found[number] = sum(
                trial_errors(ordered[side], trial, where=None if where is None else where[side])
                for side, trial in sides
            )
        return found


@dataclass(frozen=True)
class SalientColumns:
    """Zone 1 is the 1 to `most` columns of largest score; a column at least is left over."""

    most: int
    norm: Literal[1, 2] = 1
    zones: int = 2
    run: int = 1

    def told(self, columns: int) -> Told:
        """Return a label for each column."""
        return "column"

    def propose(self, score: Float[Tensor, "out some"], *, where: Bool[Tensor, "out some"] | None = None) -> Cuts:
        """Return the cuts."""
        order = column_scores(score, self.norm, where=where).argsort(descending=True, stable=True)
        most = min(self.most, len(order) - 1)
        return Cuts(order, where, len(score), min(1, most), max(1, most))
