"""A program as one block of bytes: tables, groups, steps, and the codes and scales that they point to.

`c/program.h` says what the fields mean. Codes are reordered from rows to panels of 64 rows, so that one vector
load brings 8 columns of 64 rows; columns are cut into segments of at most 128 that never cross a group of scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from liptt_cli.kernels.terms import Lowered, Term
from liptt_cli.packing.bits import pack_indices

MAGIC = 0x314B5454504C
PANEL_ROWS, SEGMENT_COLUMNS, BYTE_COLUMNS = 64, 128, 8
HEADER, TABLE, GROUP, STEP = 12, 7, 6, 4  # fields of each record, int64
_ALIGNMENT_BYTES = 64
_INPUT = -1

Segments = tuple[tuple[int, int, int, int], ...]


def write_program(weights: Sequence[Lowered], *, in_features: int, out_features: Sequence[int]) -> UInt8[Tensor, " n"]:
    """Return the block of weights that share one input; their outputs lie side by side."""
    draft, hidden, offset = _Draft(), 0, 0
    outputs = []
    for weight, rows in zip(weights, out_features, strict=True):
        terms: list[tuple[int, Term]] = [(_INPUT, term) for term in weight.direct]
        for first, second in weight.pairs:
            draft.add_group(0, (0, hidden), [(_INPUT, term) for term in first])
            terms += [(hidden, term) for term in second]
            hidden += first[0].codes.shape[0]
        outputs.append((1 if weight.pairs else 0, (1, offset), terms))
        offset += rows
    for stage, place, terms in outputs:
        draft.add_group(stage, place, terms)
    return draft.block((in_features, offset, hidden))


def segments_of(group_ends: Sequence[int]) -> Segments:
    """Return (start, columns, group, byte columns before it) of each segment."""
    found, start, first_byte = [], 0, 0
    for group, end in enumerate(group_ends):
        while start < end:
            columns = min(SEGMENT_COLUMNS, end - start)
            found.append((start, columns, group, first_byte))
            start, first_byte = start + columns, first_byte - (-columns // BYTE_COLUMNS)
    return tuple(found)


def panel_order() -> Tensor:
    """Return which row of a panel each of its 64 bytes is."""
    return torch.arange(PANEL_ROWS).reshape(4, -1).T.flatten()


def panel_codes(codes: Bool[Tensor, "rows columns"], segments: Segments) -> UInt8[Tensor, " n"]:
    """Return the codes by segment, panel, 8 columns and row, the padding being zero bits."""
    packed = torch.cat(
        [pack_indices(codes[:, start : start + n].to(torch.uint8), bits=1) for start, n, _, _ in _runs(segments)], dim=1
    )
    padded = torch.nn.functional.pad(packed, (0, 0, 0, -len(packed) % PANEL_ROWS))
    panels = padded.unflatten(0, (-1, PANEL_ROWS))[:, panel_order()].transpose(1, 2)
    starts = [first_byte for *_, first_byte in segments] + [panels.shape[1]]
    return torch.cat([panels[:, start:stop].flatten() for start, stop in pairwise(starts)])


def panel_scales(scales: Float[Tensor, "rows groups"]) -> Tensor:
    """Return the scales (groups, panels, 64), in the order of the rows."""
    padded = torch.nn.functional.pad(scales.to(torch.float16), (0, 0, 0, -len(scales) % PANEL_ROWS))
    return padded.T.contiguous()


def _runs(segments: Segments) -> Segments:
    """Return the segments, those that end on a byte joined with their next: fewer pieces to pack."""
    runs: list[tuple[int, int, int, int]] = []
    for start, columns, group, first_byte in segments:
        if runs and runs[-1][1] % BYTE_COLUMNS == 0:
            runs[-1] = (runs[-1][0], runs[-1][1] + columns, *runs[-1][2:])
        else:
            runs.append((start, columns, group, first_byte))
    return tuple(runs)


@dataclass
class _Draft:
    """What a block will hold: records of int64 and the pieces of memory behind them."""

    tables: list[list[int]] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    steps: list[list[int]] = field(default_factory=list)
    pieces: list[Tensor] = field(default_factory=list)
    _inputs: list[tuple[int, Segments, Tensor | None, Tensor | None]] = field(default_factory=list)
    _codes: list[tuple[Tensor, Segments, int]] = field(default_factory=list)

    def add_group(self, stage: int, place: tuple[int, int], terms: Sequence[tuple[int, Term]]) -> None:
        """Add the terms of one output, each with what it reads."""
        rows = terms[0][1].codes.shape[0]
        self.groups.append([stage, *place, rows, len(self.steps), len(terms)])
        for source, term in terms:
            self._add_step(stage, source, term)

    def block(self, widths: tuple[int, int, int]) -> UInt8[Tensor, " n"]:
        """Return the block; `widths` are those of input, output and hidden numbers."""
        counts = [len(self.tables), len(self.groups), len(self.steps)]
        starts = [8 * HEADER, 8 * (HEADER + TABLE * counts[0]), 8 * (HEADER + TABLE * counts[0] + GROUP * counts[1])]
        first = starts[2] + 8 * STEP * counts[2]
        places, end = [0], _aligned(first)
        for piece in self.pieces:
            places.append(end)
            end = _aligned(end + piece.numel() * piece.element_size())
        stages = 1 + max(group[0] for group in self.groups)
        records = [MAGIC, end, *widths, stages, *counts, *starts]
        for table in self.tables:
            records += [*table[:3], places[table[3]], table[4], places[table[5]], places[table[6]]]
        records += [number for group in self.groups for number in group]
        for step in self.steps:
            records += [step[0], *(places[piece] for piece in step[1:])]
        block = torch.zeros(end, dtype=torch.uint8)
        for place, piece in zip([0, *places[1:]], [torch.tensor(records), *self.pieces], strict=True):
            _write(block, place, piece)
        return block

    def _add_step(self, stage: int, source: int, term: Term) -> None:
        segments = segments_of(term.group_ends)
        codes = self._codes_piece(term.codes, segments)
        scales = 0 if term.scales is None else self._piece(panel_scales(term.scales))
        rows = 0 if term.rows is None else self._piece(_padded(term.rows))
        table = self._table(stage, source, segments, term)
        self.steps.append([table, codes, scales, rows])

    def _table(self, stage: int, source: int, segments: Segments, term: Term) -> int:
        """Return the number of the table that this term reads, a new one where there is none like it."""
        for number, (other, cut, cols, gather) in enumerate(self._inputs):
            alike = other == source and cut == segments and self.tables[number][0] <= stage
            if alike and _same(cols, term.cols) and _same(gather, term.gather):
                return number
        self._inputs.append((source, segments, term.cols, term.gather))
        pieces = [
            self._piece(torch.tensor(segments, dtype=torch.int32)),
            0 if term.cols is None else self._piece(term.cols.to(torch.float32)),
            0 if term.gather is None else self._piece(term.gather.to(torch.int32)),
        ]
        _, columns, _, first_byte = segments[-1]
        byte_columns = first_byte - (-columns // BYTE_COLUMNS)
        self.tables.append([stage, source, len(segments), pieces[0], byte_columns, *pieces[1:]])
        return len(self.tables) - 1

    def _codes_piece(self, codes: Bool[Tensor, "rows columns"], segments: Segments) -> int:
        """Return the piece of some codes, which the ranks of one magnitude share."""
        for other, cut, piece in self._codes:
            if other is codes and cut == segments:
                return piece
        self._codes.append((codes, segments, self._piece(panel_codes(codes, segments))))
        return self._codes[-1][2]

    def _piece(self, tensor: Tensor) -> int:
        """Keep a piece of memory and return its number, from 1."""
        self.pieces.append(tensor.contiguous())
        return len(self.pieces)


def _padded(rows: Float[Tensor, " rows"]) -> Tensor:
    return torch.nn.functional.pad(rows.to(torch.float32), (0, -len(rows) % PANEL_ROWS))


def _same(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None:
        return left is right
    return left.shape == right.shape and torch.equal(left, right)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _write(block: UInt8[Tensor, " n"], place: int, piece: Tensor) -> None:
    raw = piece.flatten().view(torch.uint8)
    block[place : place + len(raw)] = raw
