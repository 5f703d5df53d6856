"""Codes on a regular grid of levels under an envelope of scales.

W = sum_p scale_p * level(codes_p) + shift,    scale_p = sum_l rows[p, l] * cols[p, l]
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.formats.rounding import indices, levels, to_half
from liptt_cli.forms.alphabets import Alphabet
from liptt_cli.forms.leaves import EnvelopeForm, GridForm


@dataclass(frozen=True)
class Envelope:
    """Scales: `rows` (planes, rank, R, groups) with R in {1, out}; `cols` (planes, rank, in) or None."""

    rows: Float[Tensor, "planes rank _rows groups"]
    cols: Float[Tensor, "planes rank in"] | None
    group_columns: int

    @property
    def form(self) -> EnvelopeForm:
        """Return what is stored."""
        return EnvelopeForm(self.rows.shape[2], self.group_columns, self.cols is not None, self.rows.shape[1])

    def over(self, columns: int, dtype: torch.dtype) -> Float[Tensor, "planes _rows in"]:
        """Return the scale of each entry; the axis of rows has length 1 if one serves them all."""
        spread = self.rows.to(dtype).repeat_interleave(self.group_columns, dim=3)[..., :columns]
        if self.cols is not None:
            spread = spread * self.cols.to(dtype).unsqueeze(2)
        return spread.sum(1)

    def of_rows(self, index: Int[Tensor, " some"]) -> "Envelope":
        """Return the scales of some rows."""
        return self if self.rows.shape[2] == 1 else Envelope(self.rows[:, :, index], self.cols, self.group_columns)

    def fields(self, name: str) -> dict[str, Tensor]:
        """Return the sections."""
        found = {f"{name}.rows": self.rows}
        return found if self.cols is None else {**found, f"{name}.cols": self.cols}

    def settled(self, name: str) -> "Envelope":
        """Return the scales in float16."""
        cols = None if self.cols is None else to_half(self.cols, f"{name}.cols")
        return Envelope(to_half(self.rows, f"{name}.rows"), cols, self.group_columns)


@dataclass(frozen=True)
class Grid:
    """Codes (planes, out, in): uint8 indices, or float levels with gradients."""

    codes: Tensor
    scale: Envelope | None = None
    shift: Envelope | None = None
    alphabet: Alphabet = "sign"

    @property
    def form(self) -> GridForm:
        """Return what is stored."""
        planes, rows, columns = self.codes.shape
        return GridForm(
            (rows, columns),
            self.alphabet,
            planes,
            self.scale.form if self.scale else None,
            self.shift.form if self.shift else None,
        )

    def levels(self, dtype: torch.dtype) -> Float[Tensor, "planes out in"]:
        """Return the numbers behind the codes."""
        return levels(self.codes, alphabet=self.alphabet, dtype=dtype)

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        columns = self.codes.shape[2]
        scaled = self.levels(dtype)
        if self.scale is not None:
            scaled = scaled * self.scale.over(columns, dtype)
        total = scaled.sum(0)
        return total if self.shift is None else total + self.shift.over(columns, dtype)[0]

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ dense().T`."""
        return x @ self.dense(x.dtype).T

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return some rows of the matrix; the others are not looked at."""
        scale, shift = (None if part is None else part.of_rows(index.flatten()) for part in (self.scale, self.shift))
        found: Tensor = Grid(self.codes[:, index.flatten()], scale, shift, self.alphabet).dense(dtype)
        return found.reshape(*index.shape, -1)

    def fields(self) -> dict[str, Tensor]:
        """Return codes and scales."""
        found = {"codes": self.codes}
        if self.scale is not None:
            found |= self.scale.fields("scale")
        return found if self.shift is None else found | self.shift.fields("shift")

    def settled(self) -> "Grid":
        """Return codes as indices and scales in float16; levels are turned back into indices."""
        return Grid(
            indices(self.codes, self.alphabet),
            self.scale.settled("scale") if self.scale else None,
            self.shift.settled("shift") if self.shift else None,
            self.alphabet,
        )
