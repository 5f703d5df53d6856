"""Signs under a magnitude of low rank: Q = sign(W) * outer(u, v), uv nearest to |W| (SVID).

OneBit (Xu et al. 2024, arXiv:2402.11295) for a weight's rows and columns; on a core of a chain the magnitude
is rank-one over its four axes, so that the chain can take all vectors to its ends and bonds and keep bare
signs. A diagonal metric weighs the fit; of a full one the diagonal does (`refit` uses all of it). sign(0) = +1.

With `rank` l > 1 the magnitude is sum_l outer(u_l, v_l) over rows and columns, and stays with the codes: multi-envelope
double binary factors (Fujitsu 2025, arXiv:2512.24545, take |truncated SVD|; here the best product of nonnegative ones).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Axes
from liptt_cli.algebra.metric import Metric, diagonal
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import nearest
from liptt_cli.tensors.nonnegative import nonnegative
from liptt_cli.tensors.rank_one import rank_one


@dataclass(frozen=True)
class BinaryFit:
    """The magnitude: one vector each for left bond, out mode, in mode and right bond."""

    vectors: tuple[Tensor, Tensor, Tensor, Tensor]
    by_row: bool
    by_column: bool

    @property
    def magnitude(self) -> Tensor:
        """Return the scale of each entry."""
        left, out, into, right = self.vectors
        return torch.kron(left, out).unsqueeze(1) * torch.kron(into, right)

    def round(self, values: Float[Tensor, "a b"]) -> Grid:
        """Return the signs of the values under the magnitude."""
        left, out, into, right = self.vectors
        rows, cols = torch.kron(left, out), torch.kron(into, right)
        if not self.by_column:
            rows = rows * cols[0]
        kept = rows if self.by_row else rows[:1]
        scale = Envelope(kept.reshape(1, 1, -1, 1), cols.reshape(1, 1, -1) if self.by_column else None, values.shape[1])
        return Grid(self.bare(values).codes, scale)

    def bare(self, values: Float[Tensor, "a b"]) -> Grid:
        """Return the signs."""
        return Grid(nearest(values, "sign").unsqueeze(0))


@dataclass(frozen=True)
class EnvelopeFit:
    """A magnitude that stays with the codes: of rank l over rows and columns, or one for each row and group."""

    envelope: Envelope
    lengths: tuple[int, int, int, int]

    @property
    def vectors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ones: a chain takes nothing over."""
        left, out, into, right = (self.envelope.rows.new_ones(length) for length in self.lengths)
        return left, out, into, right

    @property
    def magnitude(self) -> Tensor:
        """Return the scale of each entry."""
        return self.envelope.over(prod(self.lengths[2:]), self.envelope.rows.dtype)[0]

    def round(self, values: Float[Tensor, "a b"]) -> Grid:
        """Return the signs of the values under the magnitude."""
        return Grid(nearest(values, "sign").unsqueeze(0), self.envelope)

    def bare(self, values: Float[Tensor, "a b"]) -> Grid:
        """Return the same."""
        return self.round(values)


@dataclass(frozen=True)
class BinaryCodec:
    """Signs, scaled by row, by column or both (`axes` is both on a plain weight), or by row and group of columns."""

    scale: Sequence[Literal["row", "column", "axes", "group"]] = ("row", "column")
    iterations: int = 8
    rank: int = 1
    group_columns: int | None = None
    exact: bool = False

    def fit(self, values: Float[Tensor, "a b"], *, metric: Metric, axes: Axes | None = None) -> BinaryFit | EnvelopeFit:
        """Return the magnitude; on a core, the axes say which vectors it has, not `scale`."""
        axes = axes or self._plain(values)
        rows, cols = (None if m is None else diagonal(m) for m in (metric.rows, metric.cols))
        if self.group_columns is not None:
            group = min(self.group_columns, values.shape[1])
            means = _group_means(values.abs(), cols, group)
            return EnvelopeFit(Envelope(means[None, None], None, group), axes.lengths)
        if self.rank > 1:
            left, right = nonnegative(values.abs(), rank=self.rank, iterations=self.iterations, weights=(rows, cols))
            envelope = Envelope(left.unsqueeze(0).unsqueeze(3), right.unsqueeze(0), values.shape[1])
            return EnvelopeFit(envelope, axes.lengths)
        weights = (None, rows, cols, None) if axes.lengths[0] == axes.lengths[3] == 1 else None
        left, out, into, right = rank_one(
            values.abs().reshape(axes.lengths), free=axes.scaled, iterations=self.iterations, weights=weights
        )
        by_row, by_column = any(axes.scaled[:2]), any(axes.scaled[2:])
        return BinaryFit((left, out, into, right), by_row, by_column)

    def _plain(self, values: Float[Tensor, "a b"]) -> Axes:
        both = "axes" in self.scale
        rows, columns = values.shape
        return Axes((1, rows, columns, 1), (False, both or "row" in self.scale, both or "column" in self.scale, False))


def _group_means(
    sizes: Float[Tensor, "a b"], weights: Float[Tensor, " b"] | None, group: int
) -> Float[Tensor, "a groups"]:
    """Return the mean of each row and group of columns, weighed: the least-squares scale of fixed signs."""
    pad = (0, -sizes.shape[1] % group)
    even = torch.nn.functional.pad(sizes.new_ones(sizes.shape[1]), pad).unflatten(0, (-1, group))
    shares = even if weights is None else torch.nn.functional.pad(weights, pad).unflatten(0, (-1, group))
    shares = torch.where(shares.sum(1, keepdim=True) > 0, shares, even)
    parts = torch.nn.functional.pad(sizes, pad).unflatten(1, (-1, group))
    means: Tensor = (parts * shares).sum(2) / shares.sum(1)
    return means
