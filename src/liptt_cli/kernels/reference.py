"""The torch meaning of a program, read back from its block: what every kernel must equal.

Rows are done some panels at a time, so that never the whole matrix is there in numbers.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from liptt_cli.kernels.layout import GROUP, HEADER, PANEL_ROWS, STEP, TABLE, panel_order

_PANELS = 16  # rows that are numbers at the same time, in panels


def run_block(block: UInt8[Tensor, " n"], x: Float[Tensor, "tokens in"]) -> Float[Tensor, "tokens out"]:
    """Return what the program makes of x, in the dtype of x."""
    reader = _Reader(block)
    header = reader.integers(0, HEADER)
    _, _, _, out_features, hidden_features, stages, tables, groups, steps = header[:9]
    found = [x.new_zeros(len(x), hidden_features), x.new_zeros(len(x), out_features)]
    table_rows = reader.records(header[9], tables, TABLE)
    step_rows = reader.records(header[11], steps, STEP)
    for stage in range(stages):
        for at, is_output, offset, rows, first, count in reader.records(header[10], groups, GROUP):
            if at != stage:
                continue
            for step in step_rows[first : first + count]:
                inputs = reader.inputs(table_rows[step[0]], x, found[0])
                found[is_output][:, offset : offset + rows] += reader.product(step, table_rows[step[0]], inputs, rows)
    return found[1]


class _Reader:
    """The records and the pieces of a block as tensors."""

    def __init__(self, block: UInt8[Tensor, " n"]) -> None:
        self._block = block

    def integers(self, start: int, count: int) -> list[int]:
        return [int(number) for number in self._piece(start, count, torch.int64)]

    def records(self, start: int, count: int, fields: int) -> list[list[int]]:
        numbers = self.integers(start, count * fields)
        return [numbers[first : first + fields] for first in range(0, len(numbers), fields)]

    def inputs(self, table: list[int], x: Tensor, hidden: Tensor) -> Float[Tensor, "tokens columns"]:
        """Return the numbers that a table is made of."""
        _, source, _, _, _, cols_at, gather_at = table
        segments = self.segments(table)
        columns = int(segments[-1, 0] + segments[-1, 1])
        found = x if source < 0 else hidden[:, source : source + columns]
        if gather_at:
            found = found[:, self._piece(gather_at, columns, torch.int32).long()]
        return found * self._piece(cols_at, columns, torch.float32).to(x.dtype) if cols_at else found[:, :columns]

    def segments(self, table: list[int]) -> Int[Tensor, "segments 4"]:
        return self._piece(table[3], table[2] * 4, torch.int32).reshape(-1, 4)

    def product(self, step: list[int], table: list[int], inputs: Tensor, rows: int) -> Float[Tensor, "tokens rows"]:
        """Return one step's product."""
        _, codes_at, scales_at, rows_at = step
        segments, panels, found = self.segments(table), -(-rows // PANEL_ROWS), []
        groups = torch.repeat_interleave(segments[:, 2], segments[:, 1])
        for first in range(0, panels, _PANELS):
            count = min(_PANELS, panels - first)
            signs = self._signs(codes_at, segments, (first, count, panels), inputs.dtype)
            if scales_at:
                scales = self._piece(scales_at, (int(groups[-1]) + 1) * panels * PANEL_ROWS, torch.float16)
                some = scales.reshape(-1, panels * PANEL_ROWS)[:, first * PANEL_ROWS :][:, : count * PANEL_ROWS]
                signs = signs * some.T.to(inputs.dtype)[:, groups]
            found.append(inputs @ signs.T)
        y = torch.cat(found, dim=1)[:, :rows]
        return y * self._piece(rows_at, rows, torch.float32).to(y.dtype) if rows_at else y

    def _signs(
        self, codes_at: int, segments: Int[Tensor, "segments 4"], some: tuple[int, int, int], dtype: torch.dtype
    ) -> Float[Tensor, "rows columns"]:
        """Return the levels of some panels: `some` is the first, how many, and how many there are at all."""
        first, count, panels = some
        found = []
        for _, columns, _, first_byte in segments.tolist():
            size = -(-columns // 8) * PANEL_ROWS
            start = codes_at + first_byte * panels * PANEL_ROWS + first * size
            packed = self._piece(start, count * size, torch.uint8).reshape(count, -1, 1, PANEL_ROWS)
            bits = packed >> torch.arange(8, dtype=torch.uint8).reshape(-1, 1) & 1
            rows = bits.flatten(1, 2)[:, :columns, panel_order().argsort()].transpose(1, 2).flatten(0, 1)
            found.append(rows.to(dtype) * 2 - 1)
        return torch.cat(found, dim=1)

    def _piece(self, start: int, count: int, dtype: torch.dtype) -> Tensor:
        return self._block[start : start + count * dtype.itemsize].view(dtype)
