"""Scales and shift of a range of columns, and the rule by which values get their codes there."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import nearest_planes
from liptt_cli.forms.alphabets import Alphabet


@dataclass(frozen=True)
class GridFit:
    """What is stored; codes are the nearest under it, or under `chosen_by` where a refit left the codes alone."""

    scale: Envelope
    shift: Envelope | None
    alphabet: Alphabet
    chosen_by: "GridFit | None" = None

    def round(self, values: Float[Tensor, "out some"], *, start: int = 0) -> Grid:
        """Return the nearest codes of values of the columns from `start` on."""
        stop = start + values.shape[1]
        scale, shift = (None if part is None else of_columns(part, start, stop) for part in (self.scale, self.shift))
        return Grid(self.codes(values, start=start), scale, shift, self.alphabet)

    def codes(self, values: Float[Tensor, "out some"], *, start: int = 0) -> UInt8[Tensor, "planes out some"]:
        """Return the codes alone."""
        rule, columns = self.chosen_by or self, values.shape[1]
        scale = of_columns(rule.scale, start, start + columns).over(columns, values.dtype)
        if rule.shift is None:
            return nearest_planes(values, scale, self.alphabet)
        shift = of_columns(rule.shift, start, start + columns).over(columns, values.dtype)[0]
        return nearest_planes(values - shift, scale, self.alphabet)

    def frozen(self, scale: Envelope, shift: Envelope | None) -> "GridFit":
        """Return other scales for the same codes."""
        return replace(self, scale=scale, shift=shift, chosen_by=self.chosen_by or self)


def of_columns(envelope: Envelope, start: int, stop: int) -> Envelope:
    """Return the scales of a range of columns; one that cuts groups has a scale for each of its columns."""
    group, columns = envelope.group_columns, stop - start
    first, last = start // group, (stop - 1) // group
    cols = None if envelope.cols is None else envelope.cols[..., start:stop]
    if first == last:
        return Envelope(envelope.rows[..., first : first + 1], cols, columns)
    if start % group == 0:
        return Envelope(envelope.rows[..., first : last + 1], cols, group)
    numbers = torch.arange(start, stop, device=envelope.rows.device) // group
    return Envelope(envelope.rows[..., numbers], cols, 1)
