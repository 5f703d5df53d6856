"""Latents: the trainable twins of the nodes of `formats`; trainable.py has their laws.

A scale vector is kept as (vector of unit mean magnitude) x (fixed number), so that Adam's step, which is absolute, is a
share of the vector's mean: with one absolute step for vectors of different size the block outputs drift, and a
distillation through normalised states does not see it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import DTYPES, Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import levels
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.zero import Zero
from liptt_cli.formats.zones import Zones
from liptt_cli.layers.flips import Flips
from liptt_cli.layers.ste import ede_slope, sign, store
from liptt_cli.menu.tuning import LatentOptions


class Part(nn.Module):
    """A piece of a trainable weight that may own parameters."""

    def own(self) -> dict[str, nn.Parameter]:
        """Return this piece's own parameters by group, without its children's."""
        return {}

    def advance(self, progress: float) -> None:
        """Hear how far the training is, in 0..1: before its first step, and after each with the gradients there."""


class Latent(Part, ABC):
    """The trainable twin of a node of `formats`."""

    @abstractmethod
    def view(self) -> Encoded:
        """Return the value with gradients."""


class DenseLatent(Latent):
    """A matrix of plain numbers, rounded to the dtype that the file holds."""

    def __init__(self, value: Dense, start: "Start") -> None:
        """Start at the stored numbers, in float32."""
        super().__init__()
        self.values = nn.Parameter(value.values.to(torch.float32, copy=True), requires_grad="weights" in start.train)
        self.stored = value.stored

    def view(self) -> Dense:
        """Return the value with gradients."""
        return Dense(store(self.values, DTYPES[self.stored]), self.stored)

    def own(self) -> dict[str, nn.Parameter]:
        """Return the matrix."""
        return {"weights": self.values}


class ScaleLatent(Part):
    """Scales of unit mean magnitude times a fixed number, the mean taken over the last `axes` axes."""

    unit: Tensor

    def __init__(self, scale: Tensor, start: "Start", *, axes: int) -> None:
        """Start at the stored numbers; a vector of zeros has the unit 1."""
        super().__init__()
        unit = scale.double().abs().mean(dim=tuple(range(-axes, 0)), keepdim=True).float()
        self.register_buffer("unit", torch.where(unit > 0, unit, 1.0))
        self.relative = nn.Parameter(scale.float() / self.unit, requires_grad="scales" in start.train)

    def forward(self) -> Tensor:
        """Return the scales as the file holds them, with gradients."""
        return store(self.relative * self.unit)

    def own(self) -> dict[str, nn.Parameter]:
        """Return the relative scales."""
        return {"scales": self.relative}


class EnvelopeLatent(Part):
    """The scales of a grid; each plane and rank has its own unit."""

    def __init__(self, value: Envelope, start: "Start") -> None:
        """Start at the stored numbers."""
        super().__init__()
        self.rows = ScaleLatent(value.rows, start, axes=2)
        self.cols = None if value.cols is None else ScaleLatent(value.cols, start, axes=1)
        self.group_columns = value.group_columns

    def forward(self) -> Envelope:
        """Return the scales with gradients."""
        return Envelope(self.rows(), None if self.cols is None else self.cols(), self.group_columns)


class GridLatent(Latent):
    """Codes as the rounding of latents, as signs that flip, or as fixed indices."""

    codes: Tensor

    def __init__(self, value: Grid, start: "Start") -> None:
        """Start at the value's codes and scales, and at the next source."""
        super().__init__()
        source = start.next_source()
        self.alphabet, self.ste, self.slope = value.alphabet, start.options.ste, start.options.ste_slope
        self.scale = None if value.scale is None else EnvelopeLatent(value.scale, start)
        self.shift = None if value.shift is None else EnvelopeLatent(value.shift, start)
        self.latent: nn.Parameter | None = None
        self.flips: Flips | None = None
        if "codes" not in start.train or start.options.kind == "none":
            self.register_buffer("codes", value.codes)
        elif start.options.kind == "dense":
            self.latent = nn.Parameter(_starting_latent(value, source, unit=start.options.unit))
        else:
            self.latent = nn.Parameter(_starting_latent(value, None, unit=True))
            self.flips = Flips(self.latent, share=start.options.flip_share, every=start.options.flip_every)

    def view(self) -> Grid:
        """Return the value with gradients."""
        if self.latent is None:
            codes = self.codes
        else:
            codes = sign(self.latent, kind=self.ste, slope=self.slope) if self.flips is None else self.latent
        scale, shift = (None if part is None else part() for part in (self.scale, self.shift))
        return Grid(codes, scale, shift, self.alphabet)

    def own(self) -> dict[str, nn.Parameter]:
        """Return the latents, if the codes train."""
        return {} if self.latent is None else {"codes": self.latent}

    def advance(self, progress: float) -> None:
        """Steepen the estimator that does, and let signs flip."""
        if self.ste == "ede":
            self.slope = ede_slope(progress)
        if self.flips is not None and self.latent is not None:
            self.flips.take(self.latent)


class ChainLatent(Latent):
    """A latent for each core, and the scale vectors beside them."""

    def __init__(self, value: Chain, start: "Start") -> None:
        """Start at the value's cores and scales."""
        super().__init__()
        self.cores = nn.ModuleList(make_latent(core, start) for core in value.cores)
        vectors = {str(k): scale for k, scale in enumerate(value.scales) if scale is not None}
        self.scales = nn.ModuleDict({k: ScaleLatent(scale, start, axes=1) for k, scale in vectors.items()})
        self.shape, self.out_modes, self.in_modes = value.shape, value.out_modes, value.in_modes

    def view(self) -> Chain:
        """Return the value with gradients."""
        cores = tuple(cast(Latent, core).view() for core in self.cores)
        names = [str(k) for k in range(len(cores) + 1)]
        scales = tuple(self.scales[k]() if k in self.scales else None for k in names)
        return Chain(cast(tuple[Grid | Dense | Zones, ...], cores), scales, self.shape, self.out_modes, self.in_modes)


class SumLatent(Latent):
    """A latent for each part."""

    def __init__(self, value: Sum, start: "Start") -> None:
        """Start at the parts."""
        super().__init__()
        self.parts = nn.ModuleList(make_latent(part, start) for part in value.parts)

    def view(self) -> Sum:
        """Return the value with gradients."""
        return Sum(tuple(cast(Latent, part).view() for part in self.parts))


class ZonesLatent(Latent):
    """A latent for each part; the labels stay."""

    labels: Tensor

    def __init__(self, value: Zones, start: "Start") -> None:
        """Start at the parts."""
        super().__init__()
        self.parts = nn.ModuleList(make_latent(part, start) for part in value.parts)
        self.register_buffer("labels", value.labels)
        self.shape, self.layout, self.counts = value.shape, value.layout, value.counts

    def view(self) -> Zones:
        """Return the value with gradients."""
        parts = cast(tuple[Zero | Dense | Grid, ...], tuple(cast(Latent, part).view() for part in self.parts))
        return Zones(self.labels, parts, self.shape, self.layout, self.counts)


class ZeroLatent(Latent):
    """Zeros, which do not train."""

    def __init__(self, value: Zero, start: "Start") -> None:
        """Keep the value."""
        super().__init__()
        self.value = value

    def view(self) -> Zero:
        """Return the value."""
        return self.value


class Start:
    """How a training starts: what every latent of a tree is told; each grid takes the next source."""

    def __init__(self, options: LatentOptions, train: frozenset[str], sources: Sequence[Tensor] | None) -> None:
        """Take the sources in the order of the grids."""
        self.options, self.train = options, train
        self._given = bool(sources) and options.source == "solver"
        self.left = list(sources or ()) if self._given else []

    def next_source(self) -> Tensor | None:
        """Return the source of the grid that asks, in order, or None if there are none."""
        if self._given and not self.left:
            raise ValueError("fewer sources than grids of codes")
        return self.left.pop(0) if self._given else None


_LATENTS: dict[type, Callable[[Any, Start], Latent]] = {
    Dense: DenseLatent,
    Grid: GridLatent,
    Chain: ChainLatent,
    Sum: SumLatent,
    Zones: ZonesLatent,
    Zero: ZeroLatent,
}


def make_latent(value: Encoded, start: Start) -> Latent:
    """Return the latent of a settled value, those of its children in it."""
    if type(value) not in _LATENTS:
        raise ValueError(f"no latent for a value of type {type(value).__name__}")
    return _LATENTS[type(value)](value, start)


def _starting_latent(value: Grid, source: Tensor | None, *, unit: bool) -> Tensor:
    """Return latents inside of their codes' cells, the edge of a cell at its nearest; of mean magnitude 1 if `unit`."""
    own = levels(value.codes, alphabet=value.alphabet, dtype=torch.float32)
    if source is None:
        return own
    mean = source.float().abs().mean()
    if source.numel() != own.numel() or not torch.isfinite(mean):
        shapes = f"{tuple(source.shape)} for codes {tuple(own.shape)}"
        raise ValueError(f"a source of shape {shapes}, its mean magnitude {mean:g}")
    latent = source.float().reshape(own.shape) / torch.where((mean > 0) & unit, mean, 1.0)
    edge = torch.where(own > 0, 0.0, -torch.finfo(torch.float32).tiny)
    return torch.where((latent >= 0) == (own > 0), latent, edge)
