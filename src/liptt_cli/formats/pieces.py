"""A weight in the making: what a codec gives for a range of columns, before it is stored.

A piece is a value of the range's full shape. Zones are `Labelled` here: a zone for each entry, and parts that still
have entries everywhere; `compact` throws away what no label asks for. So pieces of neighbouring ranges are joined by
laying them side by side, and each is rounded without knowing of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Union, cast

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.patterns import ranks
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.turned import Steps, Turned, outward
from liptt_cli.formats.zero import Zero
from liptt_cli.formats.zones import Part, Zones

Told = Literal["column", "entry", "group", "pattern"]
Piece = Union[Zero, Dense, Grid, "Labelled", "Added", "Turning"]


@dataclass(frozen=True)
class Labelled:
    """Entries of several kinds: `labels` has the zone of each, `parts` a value of the full shape for each zone.

    `told` is how the labels are stored: whole columns, entries, one a `run` of columns, or a choice of each `run`.
    """

    labels: UInt8[Tensor, "out in"]
    parts: tuple[Piece, ...]
    told: Told
    run: int = 1

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        total = torch.zeros(self.labels.shape, dtype=dtype, device=self.labels.device)
        for zone, part in enumerate(self.parts):
            total = torch.where(self.labels == zone, part.dense(dtype), total)
        return total


@dataclass(frozen=True)
class Added:
    """Pieces that are added."""

    parts: tuple[Piece, ...]

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        return torch.stack([part.dense(dtype) for part in self.parts]).sum(0)


@dataclass(frozen=True)
class Turning:
    """A piece in other coordinates: the steps of both turns as in a `Turned`.

    Ranges of columns are joined where their steps are the same and store nothing: then a turn of the whole, on runs of
    as many columns, is each range's own.
    """

    inner: Piece
    left: Steps = ()
    right: Steps = ()

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        rows = outward(self.right, self.inner.dense(dtype))
        return outward(self.left, rows.T).T if self.left else rows


def join(pieces: Sequence[Piece]) -> Piece:
    """Return the pieces of neighbouring ranges of columns as one; each range is whole groups of columns but the last.

    Raises:
        ValueError: if they are not of one kind.
    """
    first = pieces[0]
    if len(pieces) == 1:
        return first
    if {type(piece) for piece in pieces} != {type(first)}:
        raise ValueError(f"pieces of several kinds: {sorted({type(piece).__name__ for piece in pieces})}")
    if isinstance(first, Turning):
        return _join_turning([piece for piece in pieces if isinstance(piece, Turning)])
    if isinstance(first, Labelled | Added):
        parts = tuple(join(each) for each in zip(*(_parts(piece) for piece in pieces), strict=True))
        if isinstance(first, Added):
            return Added(parts)
        labels = torch.cat([piece.labels for piece in pieces if isinstance(piece, Labelled)], dim=1)
        return Labelled(labels, parts, first.told, first.run)
    return _join_leaves(pieces)


def compact(piece: Piece, within: Bool[Tensor, "out in"] | None = None) -> Encoded:
    """Return the piece as it is stored; `within` is the zone that it fills, all entries if None."""
    if isinstance(piece, Added):
        return Sum(tuple(compact(part) for part in piece.parts))
    if isinstance(piece, Labelled):
        return _zones(piece, within)
    if isinstance(piece, Turning):
        return Turned(compact(piece.inner), piece.left, piece.right)
    if within is None or isinstance(piece, Zero):
        return piece
    if isinstance(piece, Dense):
        return Dense(piece.values[within].unsqueeze(0), piece.stored)
    return replace(piece, codes=piece.codes[:, within].unsqueeze(1))


def _zones(piece: Labelled, within: Bool[Tensor, "out in"] | None) -> Zones:
    everywhere = torch.ones_like(piece.labels, dtype=torch.bool) if within is None else within
    regions = [(piece.labels == zone) & everywhere for zone in range(len(piece.parts))]
    parts = cast(tuple[Part, ...], tuple(map(compact, piece.parts, regions)))  # sums and turns stand at the top alone
    rows, columns = piece.labels.shape
    sizes = tuple(int(region.sum()) for region in regions)
    nested = None if within is None else sizes
    shape = (rows, columns)
    if piece.told == "pattern":
        kept = (piece.labels == 1).unflatten(1, (-1, piece.run))
        keep = int(kept[0, 0].sum())
        return Zones(ranks(kept, keep=keep), parts, shape, "pattern", (keep,), piece.run, nested)
    if piece.told == "group":
        return Zones(piece.labels[:1, :: piece.run], parts, shape, "group", (), piece.run, sizes).with_own_groups()
    if piece.told == "entry":
        labels = piece.labels if within is None else piece.labels[within].unsqueeze(0)
        return Zones(labels, parts, shape, "entry", sizes[1:], 1, nested)
    whole = Zones(piece.labels[:1], parts, shape, "group", (), 1, sizes)
    return _columns(piece.labels[0], whole)


def _columns(labels: UInt8[Tensor, " in"], whole: Zones) -> Zones:
    """Return zones of whole columns, told by their numbers or by a label each, whatever is shorter."""
    counts = tuple(int((labels == zone).sum()) for zone in range(1, len(whole.parts)))
    numbers = torch.cat([(labels == zone).nonzero().flatten() for zone in range(1, len(whole.parts))]).unsqueeze(0)
    named = replace(whole, labels=numbers, layout="column", counts=counts)
    return min(named, whole, key=lambda zones: zones.form.labels().bytes)


def _parts(piece: Piece) -> tuple[Piece, ...]:
    return piece.parts if isinstance(piece, Labelled | Added) else ()


def _join_turning(pieces: Sequence[Turning]) -> Turning:
    first = pieces[0]
    stored = [step for piece in pieces for step in (*piece.left, *piece.right) if step.fields()]
    if stored or any((piece.left, piece.right) != (first.left, first.right) for piece in pieces):
        raise ValueError("ranges of columns turned by different steps, or by steps that store something")
    return Turning(join([piece.inner for piece in pieces]), first.left, first.right)


def _join_leaves(pieces: Sequence[Piece]) -> Piece:
    zeros = [piece for piece in pieces if isinstance(piece, Zero)]
    if zeros:
        return Zero((zeros[0].shape[0], sum(piece.shape[1] for piece in zeros)))
    numbers = [piece for piece in pieces if isinstance(piece, Dense)]
    if numbers:
        return Dense(torch.cat([piece.values for piece in numbers], dim=1), numbers[0].stored)
    grids = [piece for piece in pieces if isinstance(piece, Grid)]
    widths = [grid.codes.shape[2] for grid in grids]
    scale, shift = (
        _join_envelopes([envelope for grid in grids if (envelope := getattr(grid, name)) is not None], widths)
        for name in ("scale", "shift")
    )
    return Grid(torch.cat([grid.codes for grid in grids], dim=2), scale, shift, grids[0].alphabet)


def _join_envelopes(envelopes: Sequence[Envelope], widths: Sequence[int]) -> Envelope | None:
    if not envelopes:
        return None
    first = envelopes[0]
    cols = None if first.cols is None else torch.cat([e.cols for e in envelopes if e.cols is not None], dim=2)
    return Envelope(torch.cat([e.rows for e in envelopes], dim=3), cols, min(first.group_columns, widths[0]))
