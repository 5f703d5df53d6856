"""What stands behind the codes of a grid in training: the codes themselves, signs of latents, signs that flip.

`rounded_codes` has those of other alphabets.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from liptt_cli.errors import ConfigError, Fault
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import levels
from liptt_cli.layers.flips import Flips
from liptt_cli.layers.parts import Part
from liptt_cli.layers.ste import ede_slope, sign
from liptt_cli.menu.tuning import LatentOptions


class Codes(Part, ABC):
    """What gives the codes of a grid."""

    @abstractmethod
    def forward(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return indices, or levels with gradients, under the grid's scale and shift of today."""

    def now(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return the codes without gradients, to be compared with those of another time."""
        return self.forward(scale, shift).detach().clone()


class FixedCodes(Codes):
    """Codes that stay."""

    codes: Tensor

    def __init__(self, value: Grid) -> None:
        """Keep the codes."""
        super().__init__()
        self.register_buffer("codes", value.codes)

    def forward(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return them."""
        return self.codes


class SignCodes(Codes):
    """Signs of latents, which do not hang on the scales."""

    def __init__(self, value: Grid, source: Tensor | None, options: LatentOptions) -> None:
        """Start at the source, or at the signs."""
        super().__init__()
        self.kind, self.slope = options.ste, options.ste_slope
        self.latent = nn.Parameter(_signed(value, source, unit=options.unit))

    def forward(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return the signs."""
        return sign(self.latent, kind=self.kind, slope=self.slope)

    def now(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return the signs, entry by entry, so that a shard of the latents will do."""
        return self.latent.detach() >= 0

    def own(self) -> dict[str, list[nn.Parameter]]:
        """Return the latents."""
        return {"codes": [self.latent]}

    def advance(self, progress: float) -> None:
        """Steepen the estimator that does."""
        if self.kind == "ede":
            self.slope = ede_slope(progress)


class FlippedCodes(Codes):
    """Signs that turn now and then."""

    def __init__(self, value: Grid, options: LatentOptions) -> None:
        """Start at the signs.

        Raises:
            ConfigError: if the codes are of another alphabet.
        """
        super().__init__()
        if value.alphabet != "sign":
            raise ConfigError(Fault("latent.kind", f"flips turns signs, not codes of {value.alphabet}; use dense"))
        self.latent = nn.Parameter(_signed(value, None, unit=True))
        self.flips = Flips(self.latent, share=options.flip_share, every=options.flip_every)

    def forward(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return the signs."""
        return self.latent

    def now(self, scale: Envelope | None, shift: Envelope | None) -> Tensor:
        """Return which are positive."""
        return self.latent.detach() >= 0

    def own(self) -> dict[str, list[nn.Parameter]]:
        """Return the signs."""
        return {"codes": [self.latent]}

    def advance(self, progress: float) -> None:
        """Let signs flip."""
        self.flips.take(self.latent)


def check_source(source: Tensor, *, entries: tuple[int, ...], codes: Tensor) -> None:
    """Refuse a source that has none of the counts of `entries`, or that is not finite.

    Raises:
        ValueError: with both shapes.
    """
    mean = source.float().abs().mean()
    if source.numel() not in entries or not torch.isfinite(mean):
        shapes = f"{tuple(source.shape)} for codes {tuple(codes.shape)}"
        raise ValueError(f"a source of shape {shapes}, its mean magnitude {mean:g}")


def _signed(value: Grid, source: Tensor | None, *, unit: bool) -> Tensor:
    """Return latents on their signs' side, those that were not at zero; of mean magnitude 1 if `unit`."""
    own = levels(value.codes, alphabet=value.alphabet, dtype=torch.float32)
    if source is None:
        return own
    check_source(source, entries=(own.numel(),), codes=value.codes)
    mean = source.float().abs().mean()
    latent = source.float().reshape(own.shape) / torch.where((mean > 0) & unit, mean, 1.0)
    edge = torch.where(own > 0, 0.0, -torch.finfo(torch.float32).tiny)
    return torch.where((latent >= 0) == (own > 0), latent, edge)
