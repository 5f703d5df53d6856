"""Blocks of columns in three classes by their summed score, as many below as above (SliM-LLM, arXiv:2405.14917).

Candidate i has the i blocks of least score in zone 0 and the i of largest score in zone 2, so that codes of b - 1, b
and b + 1 bits are b bits in the mean. i runs from 0 on, all alike, to less than half of the whole blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from liptt_cli.algebra.masks.base import Trial, tried
from liptt_cli.formats.pieces import Told


@dataclass(frozen=True)
class Exchanges:
    """The rank of each whole block by its score; what is left behind them stays in zone 1."""

    rank: Int64[Tensor, " blocks"]
    shape: tuple[int, int]
    run: int
    where: Bool[Tensor, "out some"] | None

    @property
    def count(self) -> int:
        """Return the number of candidates."""
        return max(1, (len(self.rank) + 1) // 2)

    def labels(self, choice: Int64[Tensor, " _rows"]) -> UInt8[Tensor, "out some"]:
        """Return the class of each block."""
        zones = 1 + (self.rank >= len(self.rank) - choice).int() - (self.rank < choice).int()
        spread = torch.ones(self.shape[1], dtype=torch.uint8, device=self.rank.device)
        spread[: len(zones) * self.run] = zones.to(torch.uint8).repeat_interleave(self.run)
        return spread.expand(self.shape)

    def errors(self, values: Float[Tensor, "out some"], trials: Sequence[Trial]) -> Float[Tensor, "count out"]:
        """Return what each candidate costs."""
        return tried(self, values, trials, where=self.where)


@dataclass(frozen=True)
class BlockBits:
    """Zone 0 is lowered, zone 2 raised; blocks are `run` columns."""

    run: int
    zones: int = 3

    def told(self, columns: int) -> Told:
        """Return a label for each block."""
        return "group"

    def propose(self, score: Float[Tensor, "out some"], *, where: Bool[Tensor, "out some"] | None = None) -> Exchanges:
        """Return the exchanges."""
        counted = score if where is None else torch.where(where, score, 0)
        whole = score.shape[1] // self.run
        sums = counted[:, : whole * self.run].unflatten(1, (whole, self.run)).sum((0, 2))
        return Exchanges(sums.argsort(stable=True).argsort(), tuple(score.shape), self.run, where)  # type: ignore[arg-type]
