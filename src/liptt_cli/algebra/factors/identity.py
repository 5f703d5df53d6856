"""The factor of methods that keep a weight whole: one core."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.forms.base import Form
from liptt_cli.forms.leaves import GridForm


@dataclass(frozen=True)
class IdentityFactor:
    """One core, the weight."""

    def start(self, target: Float[Tensor, "out in"], *, form: Form, generator: torch.Generator) -> Chain:
        """Return the chain of one core, scaled by row and by column where a grid's envelope is."""
        rows, columns = target.shape
        by_row = by_column = False
        if isinstance(form, GridForm) and form.scale is not None:
            by_row, by_column = form.scale.rows > 1, form.scale.cols
            by_row = by_row or not by_column
        scales = (target.new_ones(rows) if by_row else None, target.new_ones(columns) if by_column else None)
        return Chain((Dense(target, "float32"),), scales, (rows, columns), (rows,), (columns,))
