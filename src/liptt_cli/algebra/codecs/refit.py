"""Alternating least squares of a grid: scales and shift for fixed codes, then the nearest codes again.

    rows      for each row and group:  (phi C phi^T) d = phi C e,   phi = the levels of each plane, and ones for a shift
    columns   for each column, all rows together; with a whole moment C all columns at once: C o (psi^T psi)
    codes     the nearest levels; with a whole moment only for rows whose error they lower

e is what is left over and d is added to the scales, so groups that share a moment are taken in turn, each against the
newest others. Scales are float16, and a step that raises the error of what is stored is not taken: the error never
rises. Entries outside of `where` have no error. It is the alternation of ARB and ARB-RC (arXiv:2410.03129), with scale
and shift solved for together; ARB-X with the whole moment and frozen codes; ITF and AGA of PT2-LLM (arXiv:2510.03267).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.codecs.grid_fit import GridFit
from liptt_cli.algebra.metric import Metric, diagonal, times
from liptt_cli.formats.grid import Envelope
from liptt_cli.formats.rounding import levels

_RIDGE = 1e-10


@dataclass(frozen=True)
class Refit:
    """How often, in which metric, and whether the nearest codes are taken again."""

    iterations: int = 1
    metric: Literal["none", "diagonal", "full"] = "none"
    codes: bool = True

    def of(self, metric: Metric) -> Metric:
        """Return as much of a metric as is looked at."""
        if self.metric == "none" or metric.cols is None:
            return Metric(None if self.metric == "none" else metric.rows)
        return Metric(metric.rows, diagonal(metric.cols) if self.metric == "diagonal" else metric.cols)


def refitted(
    fit: GridFit,
    values: Float[Tensor, "rows columns"],
    where: Bool[Tensor, "rows columns"],
    *,
    metric: Metric,
    how: Refit,
) -> GridFit:
    """Return better scales for the values, at most `iterations` times."""
    known = _Known(values, where, how.of(metric))
    for _ in range(how.iterations):
        before = fit
        fit = _columns(_rows(fit, known), known)
        if how.codes:
            fit = _recoded(fit, known)
        if fit is before:
            break
    return fit


@dataclass(frozen=True)
class _Known:
    """What does not change."""

    values: Float[Tensor, "rows columns"]
    where: Bool[Tensor, "rows columns"]
    metric: Metric

    @property
    def row_weights(self) -> Float[Tensor, " rows"]:
        """Return what an error counts in each row."""
        rows = self.metric.rows
        return self.values.new_ones(len(self.values)) if rows is None else diagonal(rows)

    def left(self, fit: GridFit) -> Float[Tensor, "rows columns"]:
        """Return what the fit leaves over."""
        return torch.where(self.where, self.values - fit.round(self.values).dense(self.values.dtype), 0.0)

    def levels(self, fit: GridFit) -> Float[Tensor, "planes rows columns"]:
        """Return the levels of the codes, zero where nothing counts."""
        found = levels(fit.codes(self.values), alphabet=fit.alphabet, dtype=self.values.dtype)
        return torch.where(self.where, found, 0.0)

    def pulled(self, left: Float[Tensor, "rows columns"], start: int, stop: int) -> Float[Tensor, "rows some"]:
        """Return what is left over, under the moment, at some columns."""
        cols = self.metric.cols
        if cols is not None and cols.ndim == 2:
            return left @ cols[:, start:stop]
        return times(left[:, start:stop], None if cols is None else cols[start:stop], axis=1)


def _rows(fit: GridFit, known: _Known) -> GridFit:
    """Return the fit with the scales of rows and groups, and the shift, renewed group by group."""
    scale, shift, width = fit.scale, fit.shift, fit.scale.group_columns
    numbers = scale.rows[:, 0] if shift is None else torch.cat([scale.rows[:, 0], shift.rows[:, 0]])
    found, left, found_levels = numbers.clone(), known.left(fit), known.levels(fit)
    if scale.cols is not None:
        found_levels = found_levels * scale.cols[:, 0].unsqueeze(1)
    for group, start in enumerate(range(0, left.shape[1], width)):
        stop = min(start + width, left.shape[1])
        basis = found_levels[:, :, start:stop]
        if shift is not None:
            basis = torch.cat([basis, known.where[:, start:stop].to(basis.dtype).unsqueeze(0)])
        weighed = times(basis, known.metric.columns(start, stop).cols, axis=2) * known.row_weights[:, None]
        normal = torch.einsum("krc,lrc->rkl", weighed, basis)
        right = torch.einsum("krc,rc->rk", basis, known.pulled(left, start, stop) * known.row_weights[:, None])
        if found.shape[1] == 1:
            normal, right = normal.sum(0, keepdim=True), right.sum(0, keepdim=True)
        stepped = _stepped(found[:, :, group].T, normal, right).T
        left[:, start:stop] -= (basis * (stepped - found[:, :, group]).unsqueeze(2)).sum(0)
        found[:, :, group] = stepped
    if torch.equal(found, numbers):
        return fit
    planes = len(scale.rows)
    moved = None if shift is None else replace(shift, rows=found[planes:].unsqueeze(1))
    return fit.frozen(replace(scale, rows=found[:planes].unsqueeze(1)), moved)


def _columns(fit: GridFit, known: _Known) -> GridFit:
    """Return the fit with the scales of columns renewed, if there are any."""
    scale = fit.scale
    if scale.cols is None:
        return fit
    columns, weights = known.values.shape[1], known.row_weights.unsqueeze(1)
    basis = known.levels(fit) * Envelope(scale.rows, None, scale.group_columns).over(columns, known.values.dtype)
    pulled = known.pulled(known.left(fit), 0, columns) * weights
    old, moment = scale.cols[:, 0], known.metric.cols
    if moment is not None and moment.ndim == 2:
        flat = basis.transpose(0, 1).flatten(1)
        normal = ((flat * weights).T @ flat) * moment.repeat(len(basis), len(basis))
        right = (basis * pulled).sum(1).reshape(1, -1)
        stepped = _stepped(old.reshape(1, -1), normal.unsqueeze(0), right).reshape(old.shape)
    else:
        weighed = times(basis, moment, axis=2) * weights
        normal = torch.einsum("krc,lrc->ckl", weighed, basis)
        stepped = _stepped(old.T, normal, (basis * pulled).sum(1).T).T
    return fit if torch.equal(stepped, old) else fit.frozen(replace(scale, cols=stepped.unsqueeze(1)), fit.shift)


def _stepped(
    old: Float[Tensor, "systems unknowns"],
    normal: Float[Tensor, "systems unknowns unknowns"],
    right: Float[Tensor, "systems unknowns"],
) -> Float[Tensor, "systems unknowns"]:
    """Return old + d with normal d = right, in float16, of each system that the error does not rise by."""
    wide, target = normal.double(), right.double()
    ridge = _RIDGE * wide.diagonal(dim1=1, dim2=2).sum(1) + torch.finfo(torch.float32).tiny
    eye = torch.eye(old.shape[1], dtype=wide.dtype, device=wide.device)
    moved, _ = torch.linalg.solve_ex(wide + ridge[:, None, None] * eye, target.unsqueeze(2))
    new = (old + moved.squeeze(2)).to(torch.float16).to(old.dtype)
    change = (new - old).double()
    rise = torch.einsum("sk,skl,sl->s", change, wide, change) - 2 * (change * target).sum(1)
    return torch.where((rise < 0).unsqueeze(1), new, old)


def _recoded(fit: GridFit, known: _Known) -> GridFit:
    """Return the fit whose codes are the nearest under its own scales, where that is no worse."""
    rule = fit.chosen_by
    nearest = replace(fit, chosen_by=None)
    if rule is None:
        return fit
    if known.metric.cols is None or known.metric.cols.ndim == 1:
        return nearest
    before, after = (known.metric.error(known.left(each)) for each in (fit, nearest))
    if len(before) != fit.scale.rows.shape[2] or fit.scale.cols is not None:
        return nearest if float(after.sum()) < float(before.sum()) else fit
    better = (after < before).unsqueeze(1)
    scale = replace(fit.scale, rows=torch.where(better, fit.scale.rows, rule.scale.rows))
    if fit.shift is None or rule.shift is None:
        return replace(fit, chosen_by=replace(rule, scale=scale))
    shift = replace(fit.shift, rows=torch.where(better, fit.shift.rows, rule.shift.rows))
    return replace(fit, chosen_by=replace(rule, scale=scale, shift=shift))
