"""A sum of codecs: each part is fitted to what those before it leave over.

With a choice of columns the parts after the first are for zone 1 of its labels alone, and zero elsewhere; with a
`fill_columns` the first part then sees these columns as the mean of the others within so many around each, so that what
stands out does not spoil its scales (HBLLM, arXiv:2512.00862, fills before its wavelet).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from liptt_cli.algebra.codecs.base import WeightCodec, WeightFit
from liptt_cli.algebra.codecs.zones import Choice
from liptt_cli.algebra.metric import Metric
from liptt_cli.formats.pieces import Added, Labelled, Piece, Turning
from liptt_cli.formats.zero import Zero


@dataclass(frozen=True)
class ResidualFit:
    """What was fitted one after the other, and the labels of the columns that the later parts are for."""

    parts: Sequence[WeightFit]
    labels: UInt8[Tensor, "out some"] | None
    fill_columns: int | None

    def round(self, values: Float[Tensor, "out few"], *, start: int = 0) -> Added:
        """Return each part's rounding of what those before it leave over."""
        labels = None if self.labels is None else self.labels[:, start : start + values.shape[1]]
        first = self.parts[0].round(_filled(values, labels, self.fill_columns), start=start)
        pieces: list[Piece] = [first]
        left = values - first.dense(values.dtype)
        for part in self.parts[1:]:
            pieces.append(_only(part.round(left, start=start), labels))
            left = left - pieces[-1].dense(values.dtype)
        return Added(tuple(pieces))


@dataclass(frozen=True)
class ResidualCodec:
    """Parts that are added; `choice` says which columns the later ones are for, all without."""

    parts: tuple[WeightCodec, ...]
    choice: Choice | None = None
    fill_columns: int | None = None

    @property
    def needs_pivot(self) -> bool:
        """Return whether the score or a part divides by pivots."""
        scored = self.choice is not None and self.choice.score == "obs"
        return scored or any(part.needs_pivot for part in self.parts)

    @property
    def group_columns(self) -> int | None:
        """Return what is whole groups of each part."""
        groups = [part.group_columns for part in self.parts]
        return None if None in groups else lcm(*(group for group in groups if group is not None))

    @property
    def step_columns(self) -> int | None:
        """Return the parts' step; a range is rounded as a whole where columns are chosen, or a part is."""
        steps = [part.step_columns for part in self.parts]
        if self.choice is not None or None in steps:
            return None
        return lcm(*(step for step in steps if step is not None))

    def prepare(self, weight: Float[Tensor, "out in"], *, metric: Metric) -> "ResidualCodec":
        """Return the codec with prepared parts."""
        return replace(self, parts=tuple(part.prepare(weight, metric=metric) for part in self.parts))

    def columns(self, start: int, stop: int) -> "ResidualCodec":
        """Return the codec of a range of columns."""
        return replace(self, parts=tuple(part.columns(start, stop) for part in self.parts))

    def fit(
        self, values: Float[Tensor, "out some"], *, metric: Metric, where: Bool[Tensor, "out some"] | None = None
    ) -> ResidualFit:
        """Fit the parts one after the other."""
        labels = None if self.choice is None else self.choice.labels(values, metric, where=where)
        seen = _filled(values, labels, self.fill_columns)
        fits = [self.parts[0].fit(seen, metric=metric, where=where)]
        left = values - fits[0].round(seen).dense(values.dtype)
        chosen = where if labels is None else labels == 1 if where is None else (labels == 1) & where
        for part in self.parts[1:]:
            fits.append(part.fit(left, metric=metric, where=chosen))
            left = left - _only(fits[-1].round(left), labels).dense(values.dtype)
        return ResidualFit(fits, labels, self.fill_columns)


def _only(piece: Piece, labels: UInt8[Tensor, "out some"] | None) -> Piece:
    """Return the piece in its columns, and zero elsewhere; a turn of rows alone leaves columns where they are.

    Raises:
        ValueError: if the piece mixes columns.
    """
    if labels is None:
        return piece
    if isinstance(piece, Turning):
        if piece.right:
            raise ValueError("a part for some columns alone cannot turn the inputs, which mixes columns")
        return replace(piece, inner=_only(piece.inner, labels))
    rows, columns = labels.shape
    return Labelled(labels, (Zero((rows, columns)), piece), "column")


def _filled(
    values: Float[Tensor, "out some"], labels: UInt8[Tensor, "out some"] | None, window: int | None
) -> Float[Tensor, "out some"]:
    """Return the values with those of zone 1 replaced by the mean of the others nearby, of all others if none is."""
    if labels is None or window is None:
        return values
    rest = (labels == 0).to(values.dtype)
    near, count = (_windows(each, window).sum(2) for each in (rest * values, rest))
    everywhere = (rest * values).sum(1, keepdim=True) / rest.sum(1, keepdim=True).clamp_min(1)
    return torch.where(labels == 0, values, torch.where(count > 0, near / count.clamp_min(1), everywhere))


def _windows(values: Float[Tensor, "out some"], width: int) -> Float[Tensor, "out some width"]:
    """Return the entries around each, with zeros beyond the ends."""
    before = (width - 1) // 2
    return torch.nn.functional.pad(values, (before, width - 1 - before)).unfold(1, width, 1)
