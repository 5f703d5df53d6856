"""A weight whose entries come from several parts, by their labels; forms/zones.py has the layouts.

Codes and values of a part are held as they are stored: one row, the entries of its zone in row-major order. Scales
are those of the whole shape.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Grid
from liptt_cli.formats.rounding import index_dtype
from liptt_cli.formats.zero import Zero
from liptt_cli.forms.zones import Layout, ZonesForm


@dataclass(frozen=True)
class Zones:
    """`labels` as stored; `counts` are those of zones 1 and up."""

    labels: Tensor
    parts: tuple[Zero | Dense | Grid, ...]
    shape: tuple[int, int]
    layout: Layout
    counts: tuple[int, ...]

    @property
    def form(self) -> ZonesForm:
        """Return what is stored."""
        return ZonesForm(
            self.shape, self.layout, self.counts, tuple(replace(part.form, shape=self.shape) for part in self.parts)
        )

    def regions(self) -> tuple[Bool[Tensor, "out in"], ...]:
        """Return where each zone is."""
        if self.layout == "entry":
            return tuple(self.labels == zone for zone in range(len(self.parts)))
        rest = torch.ones(self.shape, dtype=torch.bool, device=self.labels.device)
        named = []
        for columns in self._columns():
            there = torch.zeros_like(rest).scatter(1, columns.expand(self.shape[0], -1), value=True)
            named.append(there)
            rest = rest & ~there
        return (rest, *named)

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        total = torch.zeros(self.shape, dtype=dtype, device=self.labels.device)
        for part, region in zip(self.parts, self.regions(), strict=True):
            if isinstance(part, Dense):
                total = total.masked_scatter(region, part.values.to(dtype))
            elif isinstance(part, Grid):
                total = torch.where(region, _spread(part, region, dtype).dense(dtype), total)
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

    def _columns(self) -> list[Tensor]:
        """Return the column numbers of zones 1 and up, (1, count) or (out, count)."""
        return [self.labels[:, start:stop].long() for start, stop in self.form.bounds]


def _spread(part: Grid, region: Bool[Tensor, "out in"], dtype: torch.dtype) -> Grid:
    """Return a part at its full shape, with zeros outside of its zone."""
    levels = part.levels(dtype)
    full = levels.new_zeros(len(levels), *region.shape)
    return replace(part, codes=full.masked_scatter(region.expand(full.shape), levels))
