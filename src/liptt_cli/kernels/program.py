"""Weights made ready for a kernel: one call, or one for several that share an input (q/k/v, gate and up)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from liptt_cli.formats.around import matrix_of
from liptt_cli.formats.base import Stored
from liptt_cli.formats.grid import Grid
from liptt_cli.formats.zones import Zones
from liptt_cli.forms.base import Form
from liptt_cli.kernels.dispatch import TORCH, describe
from liptt_cli.kernels.layout import PANEL_ROWS, write_program
from liptt_cli.kernels.operators import sign_products
from liptt_cli.kernels.terms import lower

_LAYOUT_BYTES = 2**28


@dataclass(frozen=True)
class Program(ABC):
    """Sign products on one device, and columns of plain numbers that torch adds to the weight of that number."""

    out_features: tuple[int, ...]
    columns: tuple[tuple[int, Zones], ...]

    @abstractmethod
    def products(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return the products of all weights side by side, in the dtype of x."""

    def __call__(self, x: Float[Tensor, "*lead in"]) -> tuple[Float[Tensor, "*lead _out"], ...]:
        """Return `x @ W.T` of each weight, in the dtype of x; they are views of one tensor."""
        y = self.products(x)
        outputs = list(y.split(self.out_features, dim=-1)) if len(self.out_features) > 1 else [y]
        for number, columns in self.columns:
            outputs[number] = outputs[number] + columns.apply(x)
        return tuple(outputs)


@dataclass(frozen=True)
class BlockProgram(Program):
    """A block of bytes that the compiled kernels run."""

    block: UInt8[Tensor, " n"]

    def products(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Run the block."""
        whole = sum(self.out_features)
        if torch.compiler.is_compiling() or type(x) is not Tensor or x.device.type != "cpu":
            y: Tensor = torch.ops.liptt.sign_products(x, self.block, whole)
            return y
        return sign_products(x, self.block, whole)


@dataclass(frozen=True)
class RowsProgram(Program):
    """Programs of some rows each, one after the other: so that a large table is laid out piece by piece."""

    parts: tuple[Program, ...]

    def products(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Run all of them."""
        return torch.cat([part.products(x) for part in self.parts], dim=-1)


def prepare(values: Sequence[Stored]) -> Program | None:
    """Return the program of weights that share one input, or None if one of them runs on the torch meaning.

    The layout is made anew and shares no memory with the values.
    """
    forms = [value.form for value in values]
    devices = {tensor.device for value in values for tensor in value.fields().values()}
    if len(devices) != 1 or any(describe(form, next(iter(devices)).type).name == TORCH for form in forms):
        return None
    out_features = tuple(form.shape[0] for form in forms)
    rows = _rows_at_once(forms[0])
    if isinstance(values[0], Grid) and len(values) == 1 and rows < out_features[0]:
        parts = [prepare([_some_rows(values[0], at, rows)]) for at in range(0, out_features[0], rows)]
        return RowsProgram(out_features, (), tuple(part for part in parts if part is not None))
    lowered = [lower(matrix_of(value)) for value in values]
    columns = tuple((number, zones) for number, weight in enumerate(lowered) for zones in weight.columns)
    if devices == {torch.device("cpu")}:
        block = write_program(lowered, in_features=forms[0].shape[1], out_features=out_features)
        return BlockProgram(out_features, columns, block)
    from liptt_cli.kernels import triton_program  # here, since Triton is not there on every machine

    return triton_program.write_program(lowered, out_features, columns)


def _rows_at_once(form: Form) -> int:
    """Return of how many rows the signs, a byte each while they are laid out, take at most 256 MiB; whole panels."""
    codes = [section for section in form.sections() if section.bits]
    row_bytes = sum((section.bits + 1) * section.entries for section in codes) // form.shape[0]
    return max(PANEL_ROWS, _LAYOUT_BYTES // max(1, row_bytes) // PANEL_ROWS * PANEL_ROWS)


def _some_rows(grid: Grid, first: int, rows: int) -> Grid:
    index = torch.arange(first, min(first + rows, grid.codes.shape[1]), device=grid.codes.device)
    scale, shift = (None if part is None else part.of_rows(index) for part in (grid.scale, grid.shift))
    return Grid(grid.codes[:, index], scale, shift, grid.alphabet)
