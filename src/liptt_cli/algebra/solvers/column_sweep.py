"""Column by column, each error pushed to the columns that are still to come: GPTQ (arXiv:2210.17323), for every codec.

    H^-1 = U^T U;   for each step of columns:  Q = round(W);  E = (W - Q) / diag U;  W[later] -= E U[step, later]

Scales are fitted to the compensated values of whole groups, so groups are never cut. Errors go at once to the columns
of the same block of `sweep_columns`, and to all behind it when the block is done. Without `within` a block is rounded
together, and its errors go to the columns behind it alone, by the same formula (BiLLM, arXiv:2402.04291, ARB-LLM,
PT2-LLM), or with `joint_errors` by the one that is exact for several columns, E = (W - Q) U[step, step]^-1.

In the order `activation` the columns of largest inputs come first, when most columns can still make up for them. Groups
stay those of neighbouring columns, their scales fitted before the sweep (GPTQ's static groups), so nothing is permuted
in what is stored. An input that was never seen has weight zero. Without correlations this is plain rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.algebra.codecs.base import WeightCodec, WeightFit
from liptt_cli.algebra.metric import Metric, Moment
from liptt_cli.algebra.solvers.base import EncodedWeight
from liptt_cli.errors import DivergenceError
from liptt_cli.formats.pieces import Piece, join
from liptt_cli.tensors.cholesky import inverse_root


@dataclass(frozen=True)
class ColumnSweepSolver:
    """A sweep over blocks of columns; `damping` is added to what the metric has already."""

    sweep_columns: int = 128
    within: bool = True
    order: Literal["natural", "activation"] = "natural"
    damping: float = 0.0
    joint_errors: bool = False

    def encode(self, weight: Float[Tensor, "out in"], *, codec: WeightCodec, metric: Metric) -> EncodedWeight:
        """Return a weight rounded, with what its columns were by then.

        Raises:
            DivergenceError: if it is not finite, or the inputs' moment cannot be inverted.
        """
        moment = _moment(metric.cols, weight)
        alive = moment.diagonal() > 0
        moment = moment + torch.diag((~alive) * moment.diagonal().mean().clamp_min(1e-12))
        order = moment.diagonal().argsort(descending=True, stable=True) if self.order == "activation" else None
        root, damping = inverse_root(moment if order is None else moment[order][:, order], damping=self.damping)
        pivot = root.diagonal() if order is None else torch.empty_like(root[0]).scatter(0, order, root.diagonal())
        start, known = weight * alive, replace(metric, pivot=pivot.contiguous())
        prepared, widths = codec.prepare(start, metric=known), self._widths(codec, weight.shape[1])
        sweep = _Sweep(prepared, known, root, widths, self.joint_errors)
        values, pieces = sweep.natural(start) if order is None else sweep.ordered(start, order)
        if not bool(torch.isfinite(values).all()):
            raise DivergenceError("the errors that were pushed on are not finite; raise calibration.damping")
        return EncodedWeight(join(pieces), values, damping)

    def _widths(self, codec: WeightCodec, columns: int) -> "_Widths":
        """Return how many columns are fitted, rounded and held back together."""
        group, sweep = codec.group_columns or columns, self.sweep_columns
        fit = group if self.within else _multiple(sweep, of=group)
        if codec.step_columns is None:
            return _Widths(fit, step=fit, block=_multiple(sweep, of=fit))
        step = codec.step_columns if self.within else _multiple(sweep, of=codec.step_columns)
        return _Widths(fit, step=step, block=_multiple(sweep, of=step) if fit >= sweep else _multiple(sweep, of=fit))


@dataclass(frozen=True)
class _Widths:
    """How many columns are fitted together, rounded together, and send their errors on to those behind together."""

    fit: int
    step: int
    block: int

    def blocks(self, columns: int) -> Iterator[tuple[int, int]]:
        """Give each block's start and stop; one does not go on beyond a fit, unless it holds whole ones."""
        span = max(self.fit, self.block)
        for first in range(0, columns, span):
            last = min(first + span, columns)
            for start in range(first, last, self.block):
                yield start, min(start + self.block, last)


@dataclass(frozen=True)
class _Sweep:
    """A prepared codec, the metric with its pivot, U, and the widths. Inside, columns of the weight are rows."""

    codec: WeightCodec
    metric: Metric
    root: Float[Tensor, "in in"]
    widths: _Widths
    joint_errors: bool

    def natural(self, weight: Float[Tensor, "out in"]) -> tuple[Float[Tensor, "out in"], list[Piece]]:
        """Return the values as they were rounded, and a piece for each fit."""
        values, columns, pieces = _rows(weight.T), weight.shape[1], []
        first, last, fit = self._fitted(values, 0)
        for start, stop in self.widths.blocks(columns):
            errors = torch.empty_like(values[start:stop])
            step = start
            while step < stop:
                if step == last:
                    first, last, fit = self._fitted(values, last)
                end = min(step + self.widths.step, stop, last)
                rounded = fit.round(values[step:end].T, start=step - first).dense(values.dtype).T
                self._push(values, errors, values[step:end] - rounded, (start, step, end, stop))
                if end == last:
                    pieces.append(fit.round(_rows(values[first:last].T)))
                step = end
            values[stop:].addmm_(self.root[start:stop, stop:].T, errors, alpha=-1)
        return _rows(values.T), pieces

    def ordered(
        self, weight: Float[Tensor, "out in"], order: Int[Tensor, " in"]
    ) -> tuple[Float[Tensor, "out in"], list[Piece]]:
        """Do the same with columns in an order, under the scales of the weight as it was; U is in that order."""
        if self.widths.step != 1:
            raise ValueError("an order of single columns needs a codec that rounds them one by one")
        values, columns, width = _rows(weight.T), weight.shape[1], self.widths.fit
        fits = [self._fitted(values, first) for first in range(0, columns, width)]
        values, numbers = values[order], order.tolist()
        for start, stop in ((k, min(k + self.widths.block, columns)) for k in range(0, columns, self.widths.block)):
            errors = torch.empty_like(values[start:stop])
            for step in range(start, stop):
                first, _, fit = fits[numbers[step] // width]
                rounded = fit.round(values[step].unsqueeze(1), start=numbers[step] - first).dense(values.dtype).T
                self._push(values, errors, values[step] - rounded, (start, step, step + 1, stop))
            values[stop:].addmm_(self.root[start:stop, stop:].T, errors, alpha=-1)
        back = _rows(torch.empty_like(values).index_copy_(0, order, values).T)
        return back, [fit.round(back[:, first:last]) for first, last, fit in fits]

    def _fitted(self, values: Float[Tensor, "in out"], first: int) -> tuple[int, int, WeightFit]:
        """Fit the columns from `first` on; return their start and stop."""
        last = min(first + self.widths.fit, len(values))
        known = self.metric.columns(first, last)
        return first, last, self.codec.columns(first, last).fit(_rows(values[first:last].T), metric=known)

    def _push(
        self,
        values: Float[Tensor, "in out"],
        errors: Float[Tensor, "block out"],
        error: Float[Tensor, "step out"],
        places: tuple[int, int, int, int],
    ) -> None:
        """Note a step's errors, and push them to what is left of its block."""
        start, step, end, stop = places
        root, own = self.root[step:end, step:stop], errors[step - start : end - start]
        if self.joint_errors:
            own.copy_(torch.linalg.solve_triangular(root[:, : end - step].T, error, upper=False))
        else:
            own.copy_(error / root.diagonal().unsqueeze(1))
        if end < stop:
            values[end:stop].addmm_(root[:, end - step :].T, own, alpha=-1)


def _moment(cols: Moment | None, weight: Float[Tensor, "out in"]) -> Float[Tensor, "in in"]:
    if cols is None:
        return torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
    return torch.diag(cols) if cols.ndim == 1 else cols


def _rows(values: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
    """Return a copy whose rows are contiguous."""
    return values.clone(memory_format=torch.contiguous_format)


def _multiple(least: int, *, of: int) -> int:
    return -(-least // of) * of
