"""What signs leave of the entries between two distances from zero, for all rows and many distances at once.

A row's values are sorted once. |w| <= t is then a range [a, b) of places, and the sums over it of 1, w and w^2 are
differences of cumulative sums; so is the sum of |w - m| with the place of m, for any m: sum |w - m| =
2 sum_{w > m} (w - m) - sum (w - m). A zone between two thresholds is such a range less another one inside it.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from liptt_cli.algebra.masks.base import Trial

Places = tuple[Int64[Tensor, "out count"], Int64[Tensor, "out count"]]


@dataclass(frozen=True)
class SortedRows:
    """The rows of some values, those in `where` sorted and the others behind them."""

    values: Float[Tensor, "out some"]
    where: Bool[Tensor, "out some"] | None

    def empty(self, count: int) -> Places:
        """Return ranges without entries."""
        middle = torch.full((len(self.values), count), self.values.shape[1] // 2, device=self.values.device)
        return middle, middle

    def all(self, count: int) -> Places:
        """Return the ranges of all entries."""
        last = self._inside.unsqueeze(1).expand(-1, count)
        return torch.zeros_like(last), last

    def within(self, sizes: Float[Tensor, "out count"]) -> Places:
        """Return the ranges of |w| <= size."""
        first = torch.searchsorted(self._sorted, -sizes.contiguous(), side="left")
        return first, torch.searchsorted(self._sorted, sizes.contiguous(), side="right").minimum(self._inside[:, None])

    def errors(self, inner: Places, outer: Places, trial: Trial) -> Float[Tensor, "out count"]:
        """Return the squared error of one plane of signs, or of zeros, in the outer ranges less the inner ones."""
        inner = (inner[0].clamp(*outer), inner[1].clamp(*outer))  # an empty range may lie anywhere
        ranges = ((outer[0], inner[0]), (inner[1], outer[1]))
        count = sum(stop - start for start, stop in ranges)
        ones = torch.as_tensor(count).clamp_min(1)
        total, energy = (sum(_between(sums, start, stop) for start, stop in ranges) for sums in self._sums)
        if trial.planes == 0:
            return torch.as_tensor(energy)
        mean = total / ones if trial.shift else torch.zeros_like(torch.as_tensor(total))
        place = torch.searchsorted(self._sorted, mean, side="right")
        above = [(start.maximum(place).minimum(stop), stop) for start, stop in ranges]
        larger = sum(_between(self._sums[0], start, stop) - mean * (stop - start) for start, stop in above)
        size = (2 * larger - (total - mean * count)) / ones
        return (energy - count * (mean.square() + size.square())).clamp_min(0)

    @cached_property
    def _inside(self) -> Int64[Tensor, " out"]:
        if self.where is None:
            return torch.full((len(self.values),), self.values.shape[1], device=self.values.device)
        return self.where.sum(1)

    @cached_property
    def _sorted(self) -> Float[Tensor, "out some"]:
        values = self.values if self.where is None else torch.where(self.where, self.values, torch.inf)
        return values.sort(dim=1).values

    @cached_property
    def _sums(self) -> tuple[Float[Tensor, "out some_1"], Float[Tensor, "out some_1"]]:
        """Return the cumulative sums of the sorted values and of their squares, from zero on."""
        finite = torch.where(torch.isfinite(self._sorted), self._sorted, 0)
        first, second = (torch.nn.functional.pad(each.cumsum(1), (1, 0)) for each in (finite, finite.square()))
        return first, second


def _between(
    sums: Float[Tensor, "out some_1"], start: Int64[Tensor, "out count"], stop: Int64[Tensor, "out count"]
) -> Float[Tensor, "out count"]:
    return sums.gather(1, stop) - sums.gather(1, start)
