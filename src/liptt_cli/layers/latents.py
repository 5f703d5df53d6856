"""Latents: the trainable twins of the nodes of `formats`; trainable.py has their laws."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from liptt_cli.formats.around import Around, Experts
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.build import turns_of
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import DTYPES, Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.turned import Turned
from liptt_cli.formats.zero import Zero
from liptt_cli.formats.zones import Zones
from liptt_cli.layers.codes import Codes, FixedCodes, FlippedCodes, SignCodes
from liptt_cli.layers.parts import Latent, Part, Start
from liptt_cli.layers.rounded_codes import DenseCodes, LowRankCodes, Region, RoundedCodes
from liptt_cli.layers.scales import ClosedScale, EnvelopeLatent, ScaleLatent
from liptt_cli.layers.ste import store


class DenseLatent(Latent):
    """A matrix of plain numbers, rounded to the dtype that the file holds."""

    def __init__(self, value: Dense, start: Start, region: Region | None = None) -> None:
        """Start at the stored numbers, in float32."""
        super().__init__()
        self.values = nn.Parameter(value.values.to(torch.float32, copy=True), requires_grad="weights" in start.train)
        self.stored = value.stored

    def view(self) -> Dense:
        """Return the value with gradients."""
        return Dense(store(self.values, DTYPES[self.stored]), self.stored)

    def own(self) -> dict[str, list[nn.Parameter]]:
        """Return the matrix."""
        return {"weights": [self.values]}


class GridLatent(Latent):
    """Codes, and the scale and the shift that they are under."""

    def __init__(self, value: Grid, start: Start, region: Region | None = None) -> None:
        """Start at the value's codes and scales, and at the next source; `region` is where the codes lie."""
        super().__init__()
        source = start.next_source()
        self.alphabet = value.alphabet
        self.scale = None if value.scale is None else EnvelopeLatent(value.scale, start)
        self.shift = None if value.shift is None else EnvelopeLatent(value.shift, start)
        self.codes = _codes(value, source, start, region)
        self.closed: ClosedScale | None = None
        if start.options.scales == "closed" and value.scale is not None and isinstance(self.codes, RoundedCodes):
            self.closed = ClosedScale(value.scale, self.codes.sizes())

    def view(self) -> Grid:
        """Return the value with gradients."""
        scale, shift = self._envelopes()
        return Grid(self.codes(scale, shift), scale, shift, self.alphabet)

    @torch.no_grad()
    def now(self, *, entrywise: bool = False) -> Tensor | None:
        """Return the codes as they are, None if they do not train; `entrywise`: only what a shard of a latent tells."""
        if not self.codes.own() or (entrywise and isinstance(self.codes, RoundedCodes)):
            return None
        return self.codes.now(*self._envelopes())

    def _envelopes(self) -> tuple[Envelope | None, Envelope | None]:
        scale, shift = (None if part is None else part() for part in (self.scale, self.shift))
        if self.closed is not None and scale is not None and isinstance(self.codes, RoundedCodes):
            scale = self.closed(scale, self.codes.sizes())
        return scale, shift


class ChainLatent(Latent):
    """A latent for each core, and the scale vectors beside them."""

    def __init__(self, value: Chain, start: Start, region: Region | None = None) -> None:
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

    def __init__(self, value: Sum, start: Start, region: Region | None = None) -> None:
        """Start at the parts."""
        super().__init__()
        self.parts = nn.ModuleList(make_latent(part, start) for part in value.parts)

    def view(self) -> Sum:
        """Return the value with gradients."""
        return Sum(tuple(cast(Latent, part).view() for part in self.parts))


class ZonesLatent(Latent):
    """A latent for each part; the labels stay."""

    labels: Tensor

    def __init__(self, value: Zones, start: Start, region: Region | None = None) -> None:
        """Start at the parts."""
        super().__init__()
        regions = value.regions(region)
        self.parts = nn.ModuleList(
            make_latent(part, start, there) for part, there in zip(value.parts, regions, strict=True)
        )
        self.register_buffer("labels", value.labels)
        self.bare = replace(value, labels=value.labels[:0], parts=())

    def view(self) -> Zones:
        """Return the value with gradients."""
        parts = cast(tuple[Zero | Dense | Grid | Zones, ...], tuple(cast(Latent, part).view() for part in self.parts))
        return replace(self.bare, labels=self.labels, parts=parts)


class TurnedLatent(Latent):
    """A latent for the inner value; the turns stay."""

    def __init__(self, value: Turned, start: Start, region: Region | None = None) -> None:
        """Start at the inner value."""
        super().__init__()
        self.inner = make_latent(value.inner, start)
        self.form, self.stored = value.form, [name for name in value.fields() if not name.startswith("inner.")]
        for name in self.stored:
            self.register_buffer(name.replace(".", "_"), value.fields()[name])

    def view(self) -> Turned:
        """Return the value with gradients."""
        left, right = turns_of(self.form, {name: getattr(self, name.replace(".", "_")) for name in self.stored})
        return Turned(self.inner.view(), left, right)


class ZeroLatent(Latent):
    """Zeros, which do not train."""

    def __init__(self, value: Zero, start: Start, region: Region | None = None) -> None:
        """Keep the value."""
        super().__init__()
        self.value = value

    def view(self) -> Zero:
        """Return the value."""
        return self.value


class AroundLatent(Part):
    """The latent of a weight, and what is around it: scales, those of each expert and the router of unit mean."""

    def __init__(self, value: Around, start: Start) -> None:
        """Start at the stored numbers."""
        super().__init__()
        self.inner = make_latent(value.inner, start)
        self.output_norm, self.input_bits = value.output_norm, value.input_bits
        axes = {"router": 2, "inputs": 1, "outputs": 1} if value.experts else {}
        vectors = {name: ScaleLatent(getattr(value.experts, name), start, axes=n) for name, n in axes.items()}
        self.experts = nn.ModuleDict(vectors)

    def view(self) -> Around:
        """Return the value with gradients."""
        experts = Experts(*(part() for part in self.experts.values())) if self.experts else None
        return Around(self.inner.view(), self.output_norm, experts, self.input_bits)


_LATENTS: dict[type, Callable[[Any, Start, Region | None], Latent]] = {
    Dense: DenseLatent,
    Grid: GridLatent,
    Chain: ChainLatent,
    Sum: SumLatent,
    Zones: ZonesLatent,
    Turned: TurnedLatent,
    Zero: ZeroLatent,
}


def make_latent(value: Encoded, start: Start, region: Region | None = None) -> Latent:
    """Return the latent of a settled value, those of its children in it; `region` is the zone that it fills, if any."""
    if type(value) not in _LATENTS:
        raise ValueError(f"no latent for a value of type {type(value).__name__}")
    return _LATENTS[type(value)](value, start, region)


def _codes(value: Grid, source: Tensor | None, start: Start, region: Region | None) -> Codes:
    options = start.options
    if "codes" not in start.train or options.kind == "none":
        return FixedCodes(value)
    if options.kind == "flips":
        return FlippedCodes(value, options)
    if options.kind == "low_rank":
        return LowRankCodes(value, source, start, region)
    if value.alphabet == "sign" and len(value.codes) == 1 and value.shift is None and options.scales != "closed":
        return SignCodes(value, source, options)
    return DenseCodes(value, source, start, region)
