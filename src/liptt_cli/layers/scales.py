"""Trainable scales, each rounded to the float16 that the file holds.

A scale vector is kept as (vector of unit mean magnitude) x (fixed number), so that Adam's step, which is absolute, is a
share of the vector's mean: with one absolute step for vectors of different size the block outputs drift, and a
distillation through normalised states does not see it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.formats.grid import Envelope
from liptt_cli.layers.parts import Part, Start
from liptt_cli.layers.ste import store


class ScaleLatent(Part):
    """Scales of unit mean magnitude times a fixed number, the mean taken over the last `axes` axes."""

    unit: Tensor
    relative: Tensor

    def __init__(self, scale: Tensor, start: Start, *, axes: int) -> None:
        """Start at the stored numbers; a vector of zeros has the unit 1."""
        super().__init__()
        unit = scale.double().abs().mean(dim=tuple(range(-axes, 0)), keepdim=True).float()
        self.register_buffer("unit", torch.where(unit > 0, unit, 1.0))
        relative = scale.float() / self.unit
        if start.scales_learn:
            self.relative = nn.Parameter(relative, requires_grad="scales" in start.train)
        else:
            self.register_buffer("relative", relative)

    def forward(self) -> Tensor:
        """Return the scales as the file holds them, with gradients."""
        return store(self.relative * self.unit)

    def own(self) -> dict[str, list[nn.Parameter]]:
        """Return the relative scales, if they can learn."""
        return {"scales": [self.relative]} if isinstance(self.relative, nn.Parameter) else {}


class EnvelopeLatent(Part):
    """The scales of a grid; each plane and rank has its own unit."""

    def __init__(self, value: Envelope, start: Start) -> None:
        """Start at the stored numbers."""
        super().__init__()
        self.rows = ScaleLatent(value.rows, start, axes=2)
        self.cols = None if value.cols is None else ScaleLatent(value.cols, start, axes=1)
        self.group_columns = value.group_columns

    def forward(self) -> Envelope:
        """Return the scales with gradients."""
        return Envelope(self.rows(), None if self.cols is None else self.cols(), self.group_columns)


class ClosedScale(nn.Module):
    """Scales that follow what they scale: each is its start times the mean magnitude of its cell now over that then.

    A scale that starts at its cell's mean magnitude, BitNet's of a whole weight or a row's, is that mean from then on.
    """

    then: Tensor

    def __init__(self, scale: Envelope, sizes: Float[Tensor, "out in"]) -> None:
        """Take the scales that it will be called with, and the magnitudes of the start."""
        super().__init__()
        self.by_row, self.group_columns = scale.rows.shape[2] > 1, scale.group_columns
        self.register_buffer("then", self._sums(sizes))

    @torch.no_grad()
    def forward(self, scale: Envelope, sizes: Float[Tensor, "out in"]) -> Envelope:
        """Return the scales under today's magnitudes, as the file holds them."""
        share = torch.where(self.then > 0, self._sums(sizes) / self.then, 1.0)
        return Envelope(store(scale.rows * share), scale.cols, scale.group_columns)

    def _sums(self, sizes: Float[Tensor, "out in"]) -> Float[Tensor, "_rows groups"]:
        """Return the sum over each cell of one scale."""
        sizes = torch.nn.functional.pad(sizes, (0, -sizes.shape[1] % self.group_columns))
        sums: Tensor = sizes.unflatten(1, (-1, self.group_columns)).sum(2)
        return sums if self.by_row else sums.sum(0, keepdim=True)
