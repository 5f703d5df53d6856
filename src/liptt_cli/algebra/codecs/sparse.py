"""A few entries of a weight kept, all others zero: whole columns, or as many entries in each row.

    chosen: the largest w^2, or w^2 o E x^2 (what leaving the entry out costs by the metric's diagonal)
    kept:   the values that make up best for the whole weight: w_S + w_rest C_rest,S C_SS^-1 under a whole metric C,
            and the entries themselves under a diagonal or none

A residual term of this kind takes what the terms before it leave over, so it keeps their worst errors.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from liptt_cli.algebra.codecs.base import Axes
from liptt_cli.algebra.metric import Metric, diagonal, times
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.rounding import index_dtype
from liptt_cli.formats.zero import Zero
from liptt_cli.formats.zones import Zones
from liptt_cli.forms.leaves import DenseForm
from liptt_cli.forms.leaves import Float as FloatName
from liptt_cli.forms.zones import share_count, sparse_form


@dataclass(frozen=True)
class SparseFit:
    """The columns kept, (1, count) of all rows or (out, count) of each, ascending, and the whole metric if any."""

    columns: Int64[Tensor, "_rows count"]
    moment: Float[Tensor, "in in"] | None
    dtype: FloatName
    lengths: tuple[int, int, int, int]

    @property
    def vectors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ones: there are no scales."""
        left, out, into, right = (torch.ones(length, device=self.columns.device) for length in self.lengths)
        return left, out, into, right

    @property
    def magnitude(self) -> Tensor:
        """Return one."""
        return torch.ones(1, 1, device=self.columns.device)

    def round(self, values: Float[Tensor, "a b"]) -> Zones:
        """Return the values at the places kept, and zeros elsewhere."""
        rows, count = values.shape[0], self.columns.shape[1]
        whole_columns = len(self.columns) == 1
        part = DenseForm((rows, values.shape[1]), self.dtype)
        form = sparse_form(part.shape, whole_columns=whole_columns, count=count, part=part)
        labels = self.columns.to(index_dtype(form.labels().bits))
        if form.layout == "entry":
            labels = torch.zeros_like(values, dtype=torch.uint8).scatter(1, self.columns.expand(rows, -1), value=1)
        kept = Dense(self._kept(values).reshape(1, -1), self.dtype)
        return Zones(labels, (Zero(form.shape), kept), form.shape, form.layout, form.counts)

    def bare(self, values: Float[Tensor, "a b"]) -> Zones:
        """Return the same."""
        return self.round(values)

    def _kept(self, values: Float[Tensor, "a b"]) -> Float[Tensor, "a count"]:
        """Return the least-squares values at the places kept."""
        columns = self.columns.expand(len(values), -1)
        if self.moment is None:
            return values.gather(1, columns)
        right = (values @ self.moment).gather(1, columns)
        normal = self.moment[self.columns.unsqueeze(2), self.columns.unsqueeze(1)]
        shared = len(self.columns) == 1
        solved: Tensor = torch.linalg.solve(normal[0], right.T).T if shared else torch.linalg.solve(normal, right)
        return solved


@dataclass(frozen=True)
class SparseCodec:
    """A `share` of the columns, or of each row's entries."""

    share: float
    whole_columns: bool
    score: Literal["magnitude", "energy"] = "energy"
    dtype: FloatName = "float16"
    exact: bool = False

    def fit(self, values: Float[Tensor, "a b"], *, metric: Metric, axes: Axes | None = None) -> SparseFit:
        """Choose the places."""
        score = values.square()
        if self.score == "energy":
            for axis, moment in ((0, metric.rows), (1, metric.cols)):
                score = times(score, None if moment is None else diagonal(moment), axis=axis)
        if self.whole_columns:
            score = score.sum(0, keepdim=True)
        count = share_count(self.share, values.shape[1])
        columns = score.topk(count, dim=1).indices.sort(dim=1).values
        moment = metric.cols if metric.cols is not None and metric.cols.ndim == 2 else None
        return SparseFit(columns, moment, self.dtype, axes.lengths if axes else (1, *values.shape, 1))
