"""Sign products as one launch of a CUDA kernel: bit planes, a table of row blocks, scales, and where inputs come from.

The columns of an output's terms lie side by side on one axis of positions, each group of scales padded to whole planes
of PLANE columns, and all of it to tiles of 8 planes. Byte k of a row's tile holds the sign (1 for -1) of position
p * PLANE + k of the tile in bit 7 - p: a plane is one group's product, all its signs come to the top by shifts of whole
registers, and no lane needs another one's word. A tile of 128 rows is one contiguous piece of memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int32, UInt8
from torch import Tensor

from liptt_cli.kernels.terms import Term

BLOCK_ROWS, PLANES = 128, 8
FEWEST_PLANE_COLUMNS, MOST_PLANE_COLUMNS = 32, 128

Read = tuple[int, Term]
"""A term, and the column of the input at which what it reads begins."""


@dataclass(frozen=True)
class Job:
    """One output of a launch: its place and rows, where its blocks, tiles and positions begin, and what x it reads."""

    out_start: int
    rows: int
    first_block: int
    tiles: int
    first_position: int
    x_start: int
    x_columns: int


@dataclass(frozen=True)
class Launch:
    """What one launch reads beside its input.

    `table` has for each block of 128 rows: first tile of codes, tiles, first position, first scale, padded rows, first
    output column, rows, first input column, input columns, job. `scales` are one number for each row, or one for each
    plane and row. `inputs` are the column that each position reads (-1 for none) where these do not follow each other.
    """

    codes: UInt8[Tensor, " bytes"]
    table: Int32[Tensor, "blocks 10"]
    scales: Float[Tensor, " scales"] | None
    by_plane: bool
    cols: Float[Tensor, " positions"] | None
    inputs: Int32[Tensor, " positions"] | None
    first_blocks: Int32[Tensor, " jobs"]
    plane_columns: int
    jobs: tuple[Job, ...]

    @property
    def width(self) -> int:
        """Return the number of outputs."""
        return max(job.out_start + job.rows for job in self.jobs)

    @property
    def most_tiles(self) -> int:
        """Return the tiles of the longest job."""
        return max(job.tiles for job in self.jobs)

    @property
    def positions(self) -> int:
        """Return the length of the axis of positions."""
        return max(job.first_position + job.tiles * PLANES * self.plane_columns for job in self.jobs)

    def to(self, device: torch.device) -> "Launch":
        """Return the launch on a device."""
        moved: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **moved)


def lay_out(outputs: Sequence[Sequence[Read]]) -> Launch:
    """Return the launch of outputs that are sums of terms and lie side by side."""
    columns = min(_plane_columns(term) for reads in outputs for _, term in reads)
    drafts = [_draft(reads, columns) for reads in outputs]
    by_plane = any(not draft.plain for draft in drafts)
    follow = all(draft.start is not None for draft in drafts)
    has_cols = any(term.cols is not None for reads in outputs for _, term in reads)
    table, jobs = _table(drafts, by_plane=by_plane, plane_columns=columns)
    return Launch(
        torch.cat([draft.codes for draft in drafts]),
        torch.tensor(table, dtype=torch.int32, device=drafts[0].codes.device),
        _scales(drafts, by_plane=by_plane),
        by_plane,
        torch.cat([draft.cols for draft in drafts]) if has_cols else None,
        None if follow else torch.cat([draft.inputs for draft in drafts]).to(torch.int32),
        torch.tensor([job.first_block for job in jobs], dtype=torch.int32, device=drafts[0].codes.device),
        columns,
        jobs,
    )


@dataclass(frozen=True)
class _Draft:
    """One output: packed codes, scales (planes, padded rows), factors and columns of its positions."""

    codes: UInt8[Tensor, " bytes"]
    scales: Float[Tensor, "planes padded_rows"]
    cols: Float[Tensor, " positions"]
    inputs: Int[Tensor, " positions"]
    rows: int
    plain: bool
    start: int | None
    columns: int


def _plane_columns(term: Term) -> int:
    """Return the power of two next to the widest group (an eighth of it if it is alone), within what a plane may be."""
    ends = (0, *term.group_ends)
    widest = max(stop - start for start, stop in zip(ends, ends[1:], strict=False))
    aim = -(-widest // PLANES) if term.scales is None else widest
    return min(MOST_PLANE_COLUMNS, max(FEWEST_PLANE_COLUMNS, 1 << (aim - 1).bit_length()))


def _draft(reads: Sequence[Read], plane_columns: int) -> _Draft:
    placed = [_place(term, plane_columns) for _, term in reads]
    minus = torch.cat(
        [~term.codes[:, at.clamp(min=0)] for (_, term), (at, _) in zip(reads, placed, strict=True)], dim=1
    )
    scales = [_plane_scales(term, groups) for (_, term), (_, groups) in zip(reads, placed, strict=True)]
    factors = [_at(term.cols, at) for (_, term), (at, _) in zip(reads, placed, strict=True)]
    inputs = [_sources(read, at) for read, (at, _) in zip(reads, placed, strict=True)]
    start, term = reads[0]
    spread = -minus.shape[1] % (PLANES * plane_columns)
    follow = len(reads) == 1 and term.gather is None and _is_run(placed[0][0], term.codes.shape[1])
    return _Draft(
        _pack(torch.nn.functional.pad(minus, (0, spread, 0, -len(minus) % BLOCK_ROWS)), plane_columns),
        torch.nn.functional.pad(torch.cat(scales), (0, -len(minus) % BLOCK_ROWS, 0, spread // plane_columns)),
        torch.nn.functional.pad(torch.cat(factors), (0, spread)),
        torch.nn.functional.pad(torch.cat(inputs), (0, spread), value=-1),
        len(minus),
        len(reads) == 1 and term.scales is None,
        start if follow else None,
        term.codes.shape[1],
    )


def _place(term: Term, plane_columns: int) -> tuple[Int[Tensor, " positions"], Int[Tensor, " planes"]]:
    """Return the term's column at each position (-1 in a group's padding), and the group of each plane."""
    places, groups, start = [], [], 0
    for group, end in enumerate(term.group_ends):
        width = end - start
        place = torch.arange(start, end)
        places.append(torch.nn.functional.pad(place, (0, -width % plane_columns), value=-1))
        groups += [group] * (len(places[-1]) // plane_columns)
        start = end
    device = term.codes.device
    return torch.cat(places).to(device), torch.tensor(groups, dtype=torch.int64, device=device)


def _plane_scales(term: Term, groups: Int[Tensor, " planes"]) -> Float[Tensor, "planes rows"]:
    rows = len(term.codes)
    scales = torch.ones(len(groups), rows, device=term.codes.device)
    if term.scales is not None:
        scales = term.scales.float().T[groups]
    return scales if term.rows is None else scales * term.rows


def _at(cols: Float[Tensor, " columns"] | None, place: Int[Tensor, " positions"]) -> Float[Tensor, " positions"]:
    found = torch.ones(len(place), device=place.device) if cols is None else cols.float()[place.clamp(min=0)]
    return torch.where(place < 0, 0.0, found)


def _sources(read: Read, place: Int[Tensor, " positions"]) -> Int[Tensor, " positions"]:
    start, term = read
    column = place if term.gather is None else term.gather.to(place)[place.clamp(min=0)]
    return torch.where(place < 0, -1, column + start)


def _is_run(place: Int[Tensor, " positions"], columns: int) -> bool:
    """Tell whether the positions are the columns in order, with padding only at the end."""
    return bool((place[:columns] == torch.arange(columns, device=place.device)).all())


def _pack(minus: Bool[Tensor, "padded_rows positions"], plane_columns: int) -> UInt8[Tensor, " bytes"]:
    planes = minus.to(torch.uint8).unflatten(1, (-1, PLANES, plane_columns))
    words = torch.zeros_like(planes[:, :, 0])
    for plane in range(PLANES):
        words |= planes[:, :, plane] << (PLANES - 1 - plane)
    blocks: Tensor = words.unflatten(0, (-1, BLOCK_ROWS)).transpose(1, 2)
    return blocks.flatten()


def _table(drafts: Sequence[_Draft], *, by_plane: bool, plane_columns: int) -> tuple[list[list[int]], tuple[Job, ...]]:
    table: list[list[int]] = []
    jobs, tile, position, scale, out = [], 0, 0, 0, 0
    for draft in drafts:
        planes, padded = draft.scales.shape
        tiles = planes // PLANES
        jobs.append(Job(out, draft.rows, len(table), tiles, position, draft.start or 0, draft.columns))
        for row in range(0, padded, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, draft.rows - row)
            source = (jobs[-1].x_start, jobs[-1].x_columns)
            table.append([tile, tiles, position, scale + row, padded, out + row, rows, *source, len(jobs) - 1])
            tile += tiles
        scale += padded * (planes if by_plane else 1)
        position += planes * plane_columns
        out += draft.rows
    return table, tuple(jobs)


def _scales(drafts: Sequence[_Draft], *, by_plane: bool) -> Float[Tensor, " scales"] | None:
    """Return the scales in float16 where they are such numbers, in float32 elsewhere, or None if all are one."""
    found = torch.cat([(draft.scales if by_plane else draft.scales[0]).flatten() for draft in drafts])
    if not by_plane and all(bool((draft.scales[0, : draft.rows] == 1).all()) for draft in drafts):
        return None
    half = found.to(torch.float16)
    return half if bool((half.float() == found).all()) else found
