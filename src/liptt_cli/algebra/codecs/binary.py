"""Signs under a rank-one magnitude: Q = sign(W) * outer(u, v), uv nearest to |W| (SVID).

OneBit (Xu et al. 2024, arXiv:2402.11295) for a weight's rows and columns; on a core of a chain the magnitude
is rank-one over its four axes, so that the chain can take all vectors to its ends and bonds and keep bare
signs. A diagonal metric weighs the fit; of a full one the diagonal does (`refit` uses all of it). sign(0) = +1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Axes
from liptt_cli.algebra.metric import Metric, diagonal
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import nearest
from liptt_cli.tensors.rank_one import rank_one


@dataclass(frozen=True)
class BinaryFit:
    """The magnitude: one vector each for left bond, out mode, in mode and right bond."""

    vectors: tuple[Tensor, Tensor, Tensor, Tensor]
    by_row: bool
    by_column: bool

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
class BinaryCodec:
    """Signs, scaled by row, by column or both (`axes` is both on a plain weight)."""

    scale: Sequence[Literal["row", "column", "axes"]] = ("row", "column")
    iterations: int = 8
    exact: bool = False

    def fit(self, values: Float[Tensor, "a b"], *, metric: Metric, axes: Axes | None = None) -> BinaryFit:
        """Return the magnitude; on a core, the axes say which vectors it has, not `scale`."""
        axes = axes or self._plain(values)
        weights = None
        if axes.lengths[0] == axes.lengths[3] == 1:
            weights = (None, *(None if m is None else diagonal(m) for m in (metric.rows, metric.cols)), None)
        left, out, into, right = rank_one(
            values.abs().reshape(axes.lengths), free=axes.scaled, iterations=self.iterations, weights=weights
        )
        by_row, by_column = any(axes.scaled[:2]), any(axes.scaled[2:])
        return BinaryFit((left, out, into, right), by_row, by_column)

    def _plain(self, values: Float[Tensor, "a b"]) -> Axes:
        both = "axes" in self.scale
        rows, columns = values.shape
        return Axes((1, rows, columns, 1), (False, both or "row" in self.scale, both or "column" in self.scale, False))
