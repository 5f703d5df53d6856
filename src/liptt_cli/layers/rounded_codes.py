"""Codes of any alphabet as the rounding of values that train.

    dense      L:                          the levels nearest to L under today's scale and shift, of all planes together
    low rank   L = phi + (alpha / r) A B:  the levels nearest to L, whatever the scale; phi stays

Both are in units of the grid as it is at the start, (weight - shift) / scale, or of several planes the mean magnitude
of their scales. So a step of Adam is a share of each group's own scale, and values that start at levels stay exactly
there.

Gradients: of a weight's entry with respect to its value 1 (straight-through, `ste.nearest_levels`), and with respect to
scale and shift those of fixed codes: the TernaryLLM card's dual learnable ternarisation (arXiv:2406.07177) and DB-LLM's
two planes of {0, 1} (arXiv:2402.11960). Low rank is LR-QAT (Bondarenko et al. 2024, arXiv:2406.06385): A B lies inside
of the rounding, so that it moves codes, and nothing of it is left when they are frozen; what trains is A, B and the
scales.
`phi: fixed` keeps eight bits an entry over the range of the levels: those below the codes' own are its fraction.
"""

from abc import abstractmethod
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from liptt_cli.errors import ConfigError, Fault
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import levels, nearest_planes
from liptt_cli.forms.alphabets import ALPHABETS, Levels
from liptt_cli.layers.codes import Codes, check_source
from liptt_cli.layers.parts import Start
from liptt_cli.layers.scales import EnvelopeLatent
from liptt_cli.layers.ste import nearest_levels

Region = Bool[Tensor, "out in"]
_HALVINGS = 12  # of the way from a source to its code's own level, until it rounds to the code
_FIXED_BITS = 8


class RoundedCodes(Codes):
    """The levels nearest to values; `region` is where the codes lie, None if everywhere."""

    region: Tensor | None
    one: Tensor

    def __init__(self, value: Grid, start: Start, region: Region | None) -> None:
        """Keep the scale and the shift of the start.

        A source is without the shift; of one plane it is in units of the grid, if the options' latents are in units.

        Raises:
            ConfigError: if the straight-through estimator is one of signs alone.
        """
        super().__init__()
        self.kind, self.unit_sources = start.options.ste, start.options.unit
        if self.kind in ("tanh", "ede"):
            raise ConfigError(Fault("latent.ste", f"{self.kind} is of one plane of signs; use identity or clip"))
        self.alphabet = value.alphabet
        self.columns = value.codes.shape[2] if region is None else region.shape[1]
        self.register_buffer("region", region, persistent=False)
        self.register_buffer("one", torch.ones(1, 1, 1, device=value.codes.device), persistent=False)
        self.scale = None if value.scale is None else EnvelopeLatent(value.scale, start.fixed())
        self.shift = None if value.shift is None else EnvelopeLatent(value.shift, start.fixed())

    @abstractmethod
    def values(self) -> Float[Tensor, "a b"]:
        """Return the values with gradients."""

    def sizes(self) -> Float[Tensor, "out in"]:
        """Return the values' magnitudes in units of the weight, zero where no codes are."""
        sizes = (self.values().detach() * self._step(self._over(self.scale))).abs()
        return sizes if self.region is None else sizes.new_zeros(self.region.shape).masked_scatter(self.region, sizes)

    def _over(self, kept: EnvelopeLatent | None) -> Float[Tensor, "planes _a _b"]:
        """Return a scale of the start for each entry, ones without any."""
        return self._spread(None if kept is None else kept())

    def _spread(self, scale: Envelope | None) -> Float[Tensor, "planes _a _b"]:
        """Return the scale of each entry, detached; ones without any."""
        if scale is None:
            return self.one
        spread = scale.over(self.columns, torch.float32).detach()
        if self.region is None:
            return spread
        return spread.expand(-1, *self.region.shape)[:, self.region].unsqueeze(1)

    @staticmethod
    def _step(scales: Float[Tensor, "planes _a _b"]) -> Float[Tensor, "_a _b"]:
        """Return the unit of each entry, 1 where its scales are zero."""
        size = scales[0] if len(scales) == 1 else scales.abs().mean(0)
        return torch.where(size == 0, 1.0, size)

    def _start(self, value: Grid, source: Tensor | None) -> tuple[Float[Tensor, "a b"], Float[Tensor, "a b"]]:
        """Return the values of the start, and those that are exactly the codes."""
        scales = self._over(self.scale)
        ratios = scales / self._step(scales)
        ratios = ratios if len(ratios) > 1 else torch.ones_like(ratios)  # that of a scale of zero too
        own = (levels(value.codes, alphabet=self.alphabet, dtype=torch.float32) * ratios).sum(0)
        if source is None:
            return own, own
        given = self._placed(source, value.codes)
        return (given if self.unit_sources and len(scales) == 1 else given / self._step(scales)), own

    def _placed(self, source: Tensor, codes: Tensor) -> Float[Tensor, "a b"]:
        """Return a source of the whole weight, or of the region alone, in the place of the codes."""
        whole = codes[0].numel() if self.region is None else self.region.numel()
        check_source(source, entries=(whole, codes[0].numel()), codes=codes)
        if self.region is not None and source.numel() == whole:
            source = source.reshape(self.region.shape)[self.region]
        return source.float().reshape(codes.shape[1:])

    def _settled(self, value: Grid, source: Tensor | None) -> Float[Tensor, "a b"]:
        """Return values that round to the value's codes as they are kept, each as near to its source as that allows."""
        values, own = self._start(value, source)
        scales = self._over(self.scale)
        ratios = scales / self._step(scales)
        for _ in range(_HALVINGS):
            wrong = (nearest_planes(self._kept(values), ratios, self.alphabet) != value.codes).any(0)
            if not wrong.any():
                return values
            values = torch.where(wrong, (values + own) / 2, values)
        wrong = (nearest_planes(self._kept(values), ratios, self.alphabet) != value.codes).any(0)
        return torch.where(wrong, own, values)

    @abstractmethod
    def _kept(self, values: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
        """Return values as they come back from where they are kept."""


class DenseCodes(RoundedCodes):
    """A value behind each code; of mean magnitude 1 times a fixed number, if the options say so."""

    def __init__(self, value: Grid, source: Tensor | None, start: Start, region: Region | None) -> None:
        """Start at the source, or at the codes' own levels."""
        self.unit = 1.0
        super().__init__(value, start, region)
        mean = float(self._start(value, source)[0].abs().mean())
        self.unit = mean if start.options.unit and mean > 0 else 1.0
        self.latent = nn.Parameter(self._settled(value, source) / self.unit)

    def values(self) -> Float[Tensor, "a b"]:
        """Return the values with gradients."""
        return self.latent * self.unit

    def forward(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return the nearest levels under today's scale and shift."""
        values, step = self.values(), self._step(self._over(self.scale))
        if shift is not None:
            values = values + (self._over(self.shift)[0] - self._spread(shift)[0]) / step
        return nearest_levels(values, self._spread(scale) / step, alphabet=self.alphabet, kind=self.kind)

    def own(self) -> dict[str, list[nn.Parameter]]:
        """Return the latents."""
        return {"codes": [self.latent]}

    def _kept(self, values: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
        return values / self.unit * self.unit


class LowRankCodes(RoundedCodes):
    """A fixed value behind each code, moved by a product of low rank."""

    phi: Tensor

    def __init__(self, value: Grid, source: Tensor | None, start: Start, region: Region | None) -> None:
        """Start at the source, or at the codes' own levels: A is zero, B uniform, the same for each shape.

        Raises:
            ConfigError: if the codes have several planes.
        """
        super().__init__(value, start, region)
        if len(value.codes) > 1:
            raise ConfigError(Fault("latent.kind", "low_rank is of codes of one plane; use dense for several"))
        options, (rows, columns) = start.options, value.codes.shape[1:] if region is None else region.shape
        self.gain, self.phi_kind, self.levels = options.alpha / options.rank, options.phi, ALPHABETS[value.alphabet]
        drawn = torch.rand(options.rank, columns, generator=torch.Generator().manual_seed(0))
        self.left = nn.Parameter(torch.zeros(rows, options.rank, device=value.codes.device))
        self.right = nn.Parameter(((2 * drawn - 1) / columns**0.5).to(value.codes.device))
        self.register_buffer("phi", self._stored(self._settled(value, source)))

    def values(self) -> Float[Tensor, "a b"]:
        """Return the values with gradients."""
        with torch.autocast(self.left.device.type, enabled=False):  # a code is the same in any dtype of computation
            moved = self.gain * self.left @ self.right
        moved = moved if self.region is None else moved[self.region].unsqueeze(0)
        return self._read(self.phi) + moved

    def forward(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return the nearest levels."""
        return nearest_levels(self.values(), self.one, alphabet=self.alphabet, kind=self.kind)

    def own(self) -> dict[str, list[nn.Parameter]]:
        """Return the factors."""
        return {"codes": [self.left, self.right]}

    def _kept(self, values: Float[Tensor, "a b"]) -> Float[Tensor, "a b"]:
        return self._read(self._stored(values))

    def _stored(self, values: Float[Tensor, "a b"]) -> Tensor:
        if self.phi_kind != "fixed":
            return values.to(cast(torch.dtype, getattr(torch, self.phi_kind)))
        known = self.levels
        index = ((values - known.first) / known.step).clamp(0, known.count - 1)
        return ((index - _half(known)) * _fractions(known)).round().to(torch.int8)

    def _read(self, phi: Tensor) -> Float[Tensor, "a b"]:
        if self.phi_kind != "fixed":
            return phi.float()
        known = self.levels
        return known.first + known.step * (phi.float() / _fractions(known) + _half(known))


def _half(known: Levels) -> int:
    """Return the index in the middle of what the bits of a code can tell."""
    return 1 << (known.bits - 1)


def _fractions(known: Levels) -> int:
    """Return how many steps of a fixed-point number make one step of the levels."""
    return 1 << (_FIXED_BITS - known.bits)
