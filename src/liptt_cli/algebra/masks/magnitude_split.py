"""Zones by one or two thresholds on the score, searched on a grid (BiLLM, arXiv:2402.04291; STBLLM, 2408.01803).

    low  s <= p      high  p < s                         two thresholds: low  s <= p, middle  .. <= ratio p, high

The grid is quantiles of the scores, or shares of the largest one, of all rows together or of each row on its own. Where
the scores are the values' sizes, a zone is two intervals of each row's sorted values, and its errors are differences of
cumulative sums: every candidate of every row costs a few look-ups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from liptt_cli.algebra.masks.base import Trial, tried
from liptt_cli.algebra.masks.sorted_rows import SortedRows
from liptt_cli.formats.pieces import Told


@dataclass(frozen=True)
class Thresholds:
    """Candidate k has the thresholds `at[:, k]`, for all rows or for each; entries above i of them are in zone i."""

    score: Float[Tensor, "out some"]
    where: Bool[Tensor, "out some"] | None
    at: Float[Tensor, "thresholds _rows count"]

    @property
    def count(self) -> int:
        """Return the number of candidates."""
        return self.at.shape[2]

    def labels(self, choice: Int64[Tensor, " _rows"]) -> UInt8[Tensor, "out some"]:
        """Return how many thresholds each score exceeds."""
        rows = len(self.score)
        chosen = self.at.expand(-1, rows, -1).gather(
            2, choice.expand(rows).reshape(1, -1, 1).expand(len(self.at), -1, 1)
        )
        return (self.score > chosen).sum(0, dtype=torch.uint8)

    def errors(self, values: Float[Tensor, "out some"], trials: Sequence[Trial]) -> Float[Tensor, "count out"]:
        """Return the errors of all zones of each candidate."""
        if any(trial.planes > 1 for trial in trials) or not bool((self.score == values.abs()).all()):
            return tried(self, values, trials, where=self.where)
        rows = SortedRows(values, self.where)
        inner = rows.empty(self.count)
        found = values.new_zeros(len(values), self.count)
        for zone, trial in enumerate(trials):
            outer = rows.within(self.at[zone].expand(len(values), -1)) if zone < len(self.at) else rows.all(self.count)
            found += rows.errors(inner, outer, trial)
            inner = outer
        return found.T


@dataclass(frozen=True)
class MagnitudeSplit:
    """Thresholds p from `low` to `high` in `grid` steps: quantiles of the scores, or shares of the largest one.

    With a `ratio` there is a second one at ratio x p, and at most at the end of the grid. `by_row` makes the grid of
    each row's own scores.
    """

    grid: int
    low: float = 0.1
    high: float = 0.9
    ratio: float | None = None
    of: Literal["quantile", "maximum"] = "quantile"
    by_row: bool = False
    run: int = 1

    @property
    def zones(self) -> int:
        """Return the number of zones."""
        return 2 if self.ratio is None else 3

    def told(self, columns: int) -> Told:
        """Return a label for each entry."""
        return "entry"

    def propose(self, score: Float[Tensor, "out some"], *, where: Bool[Tensor, "out some"] | None = None) -> Thresholds:
        """Return the thresholds."""
        shares = torch.linspace(self.low, self.high, self.grid, dtype=score.dtype, device=score.device)
        at = self._levels(score, where, shares)
        if self.ratio is None:
            return Thresholds(score, where, at.unsqueeze(0))
        return Thresholds(score, where, torch.stack([at, (self.ratio * at).minimum(at[:, -1:])]))

    def _levels(
        self,
        score: Float[Tensor, "out some"],
        where: Bool[Tensor, "out some"] | None,
        shares: Float[Tensor, " count"],
    ) -> Float[Tensor, "_rows count"]:
        """Return the first threshold of each candidate, for all rows or for each."""
        flat = score if self.by_row else score.reshape(1, -1)
        inside = torch.ones_like(flat, dtype=torch.bool) if where is None else where.reshape(flat.shape)
        if self.of == "maximum":
            return torch.where(inside, flat, 0).amax(1, keepdim=True) * shares
        counts = inside.sum(1, keepdim=True)
        ordered = torch.where(inside, flat, torch.inf).sort(dim=1).values
        places = (shares * (counts - 1).clamp_min(0)).round().long()
        return ordered.gather(1, places)
