"""A weight whose entries come from several parts, by their labels; forms/zones.py has the layouts.

Codes and values of a part are held as they are stored: one row, the entries of its zone in row-major order. Scales
are those of the whole shape.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Union

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.patterns import choices
from liptt_cli.formats.rounding import index_dtype
from liptt_cli.formats.zero import Zero
from liptt_cli.forms.zones import Layout, ZonesForm

Part = Union[Zero, Dense, Grid, "Zones"]


@dataclass(frozen=True)
class Zones:
    """`labels` as stored; `counts` are those of zones 1 and up; `run` and `sizes` as in the form."""

    labels: Tensor
    parts: tuple[Part, ...]
    shape: tuple[int, int]
    layout: Layout
    counts: tuple[int, ...]
    run: int = 1
    sizes: tuple[int, ...] | None = None

    @property
    def form(self) -> ZonesForm:
        """Return what is stored."""
        parts = tuple(replace(part.form, shape=self.shape) for part in self.parts)
        return ZonesForm(self.shape, self.layout, self.counts, parts, self.run, self.sizes)

    def regions(self, within: Bool[Tensor, "out in"] | None = None) -> tuple[Bool[Tensor, "out in"], ...]:
        """Return where each zone is; `within` is the zone that these zones divide, all entries if None."""
        found = self._named() if self.layout in ("column", "index") else self._labelled(within)
        return found if within is None else tuple(region & within for region in found)

    def whole_parts(self) -> tuple[Part, ...]:
        """Return the parts with scales of all groups of columns, zero for those that are another zone's."""
        return tuple(self._regrouped(zone, part, _in_all_groups) for zone, part in enumerate(self.parts))

    def with_own_groups(self) -> "Zones":
        """Return the same, given parts with scales of all groups of columns."""
        parts = tuple(self._regrouped(zone, part, _own_groups) for zone, part in enumerate(self.parts))
        return replace(self, parts=parts)

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        return self.over(None, dtype)

    def over(self, within: Bool[Tensor, "out in"] | None, dtype: torch.dtype) -> Float[Tensor, "out in"]:
        """Return the matrix where these zones lie, and zero elsewhere."""
        total = torch.zeros(self.shape, dtype=dtype, device=self.labels.device)
        for part, region in zip(self.whole_parts(), self.regions(within), strict=True):
            if isinstance(part, Dense):
                total = total.masked_scatter(region, part.values.to(dtype))
            elif isinstance(part, Grid):
                total = torch.where(region, _spread(part, region, dtype).dense(dtype), total)
            elif isinstance(part, Zones):
                total = torch.where(region, part.over(region, dtype), total)
        return total

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ dense().T`; zeros beside whole columns of numbers cost nothing."""
        if self.layout != "column" or not isinstance(self.parts[0], Zero):
            return x @ self.dense(x.dtype).T
        y = x.new_zeros(*x.shape[:-1], self.shape[0])
        for part, columns in zip(self.parts[1:], self._columns(), strict=True):
            if not isinstance(part, Dense):
                return x @ self.dense(x.dtype).T
            y = y + x[..., columns[0]] @ part.values.to(x.dtype).reshape(self.shape[0], -1).T
        return y

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return some rows of the matrix."""
        return self.dense(dtype)[index]

    def fields(self) -> dict[str, Tensor]:
        """Return the labels, then the parts' sections."""
        found = {"labels": self.labels}
        return found | {
            f"parts.{k}.{name}": t for k, part in enumerate(self.parts) for name, t in part.fields().items()
        }

    def settled(self) -> "Zones":
        """Return labels and parts as they are stored."""
        labels = self.labels.to(index_dtype(self.form.labels().bits))
        return replace(self, labels=labels, parts=tuple(part.settled() for part in self.parts))

    def _regrouped(
        self, zone: int, part: Part, change: Callable[[Envelope, Bool[Tensor, " groups"]], Envelope]
    ) -> Part:
        """Return a part with its scales changed, where zones are whole runs of its groups of columns."""
        if not isinstance(part, Grid) or self.layout != "group" or self.run == 1:
            return part

        def changed(envelope: Envelope | None) -> Envelope | None:
            if envelope is None or self.run % envelope.group_columns:
                return envelope
            mine = (self.labels[0] == zone).repeat_interleave(self.run // envelope.group_columns)
            return change(envelope, mine[: -(-self.shape[1] // envelope.group_columns)])

        return replace(part, scale=changed(part.scale), shift=changed(part.shift))

    def _columns(self) -> list[Tensor]:
        """Return the column numbers of zones 1 and up, (1, count) or (out, count)."""
        return [self.labels[:, start:stop].long() for start, stop in self.form.bounds]

    def _named(self) -> tuple[Bool[Tensor, "out in"], ...]:
        """Return the zones of labels that are column numbers."""
        rest = torch.ones(self.shape, dtype=torch.bool, device=self.labels.device)
        named = []
        for columns in self._columns():
            there = torch.zeros_like(rest).scatter(1, columns.expand(self.shape[0], -1), value=True)
            named.append(there)
            rest = rest & ~there
        return (rest, *named)

    def _labelled(self, within: Bool[Tensor, "out in"] | None) -> tuple[Bool[Tensor, "out in"], ...]:
        """Return the zones of labels that are zones' numbers, or ranks of patterns."""
        if self.layout == "pattern":
            known = choices(self.counts[0], self.run).to(self.labels.device)
            kept = known[self.labels.long()].reshape(self.shape)
            return ~kept, kept
        labels = self.labels
        if self.layout == "group":
            spread = labels.repeat_interleave(self.run, dim=1)[:, : self.shape[1]]
            labels = spread.expand(self.shape)
        elif within is not None:
            labels = torch.zeros(self.shape, dtype=labels.dtype, device=labels.device).masked_scatter(within, labels)
        return tuple(labels == zone for zone in range(len(self.parts)))


def _own_groups(envelope: Envelope, groups: Bool[Tensor, " groups"]) -> Envelope:
    """Return the scales of some groups of columns."""
    return replace(envelope, rows=envelope.rows[..., groups])


def _in_all_groups(envelope: Envelope, groups: Bool[Tensor, " groups"]) -> Envelope:
    """Return scales of all groups, given those of some."""
    rows = envelope.rows.new_zeros(*envelope.rows.shape[:-1], len(groups))
    places = (~groups).to(torch.uint8).argsort(stable=True)[: envelope.rows.shape[3]]  # nonzero() that knows its count
    return replace(envelope, rows=rows.index_copy(3, places, envelope.rows))


def _spread(part: Grid, region: Bool[Tensor, "out in"], dtype: torch.dtype) -> Grid:
    """Return a part at its full shape, with zeros outside of its zone."""
    levels = part.levels(dtype)
    full = levels.new_zeros(len(levels), *region.shape)
    return replace(part, codes=full.masked_scatter(region.expand(full.shape), levels))
