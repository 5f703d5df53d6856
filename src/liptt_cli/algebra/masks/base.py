"""The contract of a mask: it proposes how entries fall into zones, and says what each proposal would cost signs.

    proposal = mask.propose(score, where=where)
    labels = proposal.labels(best of proposal.errors(values, trials))

A proposal has one or more candidates. What fills the zones is not known here: a `Trial` stands in for it, the squared
error of a few planes of signs under one scale (and one mean) a row. Masks add up these errors over candidates by
cumulative sums where they can; `tried` is the definition, candidate by candidate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from liptt_cli.formats.pieces import Told


@dataclass(frozen=True)
class Trial:
    """Stands in for what fills a zone while candidates are judged: `planes` of signs, each fitted to what is left.

    `shift` is whether each plane has a mean of its own. No plane at all is a zone of zeros.
    """

    planes: int = 1
    shift: bool = False


@runtime_checkable
class Proposal(Protocol):
    """The candidates of one mask for one range of columns."""

    @property
    def count(self) -> int:
        """Return the number of candidates."""
        ...

    def labels(self, choice: Int64[Tensor, " _rows"]) -> UInt8[Tensor, "out some"]:
        """Return the zone of each entry under one candidate, or under one for each row."""
        ...

    def errors(self, values: Float[Tensor, "out some"], trials: Sequence[Trial]) -> Float[Tensor, "count out"]:
        """Return what each candidate costs each row of the values, one trial a zone."""
        ...


@runtime_checkable
class Mask(Protocol):
    """Divides a weight, or a range of its columns, into zones."""

    @property
    def zones(self) -> int:
        """Return the number of zones."""
        ...

    @property
    def run(self) -> int:
        """Return how many columns are decided together, beginning at multiples of it; 1 where they are not."""
        ...

    def told(self, columns: int) -> Told:
        """Return how the labels of a weight of so many columns are stored."""
        ...

    def propose(self, score: Float[Tensor, "out some"], *, where: Bool[Tensor, "out some"] | None = None) -> Proposal:
        """Return candidates; only entries in `where` count, and labels elsewhere mean nothing."""
        ...


@dataclass(frozen=True)
class Fixed:
    """The one candidate of a mask that searches nothing."""

    found: UInt8[Tensor, "out some"]
    where: Bool[Tensor, "out some"] | None = None
    count: int = 1

    def labels(self, choice: Int64[Tensor, " _rows"]) -> UInt8[Tensor, "out some"]:
        """Return it."""
        return self.found

    def errors(self, values: Float[Tensor, "out some"], trials: Sequence[Trial]) -> Float[Tensor, "1 out"]:
        """Return what it costs."""
        return tried(self, values, trials, where=self.where)


def tried(
    proposal: Proposal,
    values: Float[Tensor, "out some"],
    trials: Sequence[Trial],
    *,
    where: Bool[Tensor, "out some"] | None = None,
) -> Float[Tensor, "count out"]:
    """Return what candidates cost by trying each of them."""
    errors = values.new_zeros(proposal.count, len(values))
    for number, error in enumerate(errors):
        labels = proposal.labels(torch.tensor([number], device=values.device))
        for zone, trial in enumerate(trials):
            region = labels == zone if where is None else (labels == zone) & where
            error += trial_errors(values.T, trial, where=region.T)
    return errors


def trial_errors(
    values: Float[Tensor, "some out"], trial: Trial, *, where: Bool[Tensor, "some out"] | None = None
) -> Float[Tensor, " out"]:
    """Return the squared error that signs leave of the entries in `where` of each row; rows are the last axis here.

    With B = sign(W - m), m the mean and a the mean of |W - m|, sum (W - m - a B)^2 = sum W^2 - n m^2 - n a^2.
    """
    left = values if where is None else torch.where(where, values, 0)
    count: Tensor | float = float(max(len(values), 1)) if where is None else where.sum(0).clamp_min(1)
    energy = torch.linalg.vector_norm(left, dim=0).square()
    for plane in range(trial.planes):
        if trial.shift:
            mean = left.sum(0) / count
            energy = energy - count * mean.square()
            left = left - mean if where is None else torch.where(where, left - mean, 0)
        size = torch.linalg.vector_norm(left, ord=1, dim=0) / count
        energy = energy - count * size.square()
        if plane + 1 < trial.planes:
            rest = left - torch.copysign(size, left)
            left = rest if where is None else torch.where(where, rest, 0)
    found: Tensor = energy.clamp_min(0)
    return found
