"""The trainable view of a compressed weight: modules whose `view()` is an `Encoded` with gradients.

    Latent.view()    codes as float levels by straight-through; scales rounded to float16 by straight-through
    Latent.freeze()  view().settled(): the stored numbers

Laws: `freeze(thaw(v)) == v`, and `module(x) == freeze().apply(x)`, bit for bit in float32, after any training; the
trained and the packed weight run through the same lines of `formats`. Thaw never changes a code.

A scale vector is kept as (vector of unit mean magnitude) x (fixed number), so that Adam's step, which is absolute, is a
share of the vector's mean: with one absolute step for vectors of different size the block outputs drift, and a
distillation through normalised states does not see it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import DTYPES, Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import levels
from liptt_cli.layers.ste import sign, store
from liptt_cli.menu.tuning import LatentOptions

Groups = dict[str, list[nn.Parameter]]


def thaw(
    value: Encoded,
    *,
    options: LatentOptions,
    train: Collection[str],
    bias: Float[Tensor, " out"] | None = None,
    sources: Sequence[Tensor] | None = None,
) -> "TrainableLinear":
    """Return a module that starts as `value`, its groups outside of `train` frozen.

    Args:
        value: settled or not; what is stored of it is where the training starts.
        options: where the latents come from, and the backward of their rounding.
        train: groups that move: codes, scales, weights; other names are left to whoever knows them.
        bias: added to the output as it is; never trained.
        sources: the solver's values before rounding, one a core. A latent that disagrees with its code is
            clipped into the code's own cell. Without them latents start at the codes' own levels.
    """
    return TrainableLinear(_latent(value.settled(), _Start(options, frozenset(train), sources)), bias)


class TrainableLinear(nn.Module):
    """A linear in training: a latent weight, and the bias of the linear that it replaces."""

    def __init__(self, latent: "Latent", bias: Float[Tensor, " out"] | None) -> None:
        """Take the latent as it is, and a copy of the bias that does not train."""
        super().__init__()
        self.latent = latent
        self.out_features, self.in_features = latent.view().form.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    def view(self) -> Encoded:
        """Return the weight with gradients."""
        return self.latent.view()

    def freeze(self) -> Encoded:
        """Return the weight as the file holds it."""
        with torch.no_grad():
            return self.view().settled()

    def forward(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ W.T + bias`."""
        y = self.view().apply(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def groups(self) -> Groups:
        """Return the parameters by the group that gives their learning rate; frozen codes are no parameters."""
        found: Groups = {"codes": [], "scales": [], "weights": []}
        for part in self.modules():
            if isinstance(part, Part):
                for group, parameter in part.own().items():
                    found[group].append(parameter)
        return found


class Part(nn.Module):
    """A piece of a trainable weight that may own parameters."""

    def own(self) -> dict[str, nn.Parameter]:
        """Return this piece's own parameters by group, without its children's."""
        return {}


class Latent(Part, ABC):
    """The trainable twin of a node of `formats`."""

    @abstractmethod
    def view(self) -> Encoded:
        """Return the value with gradients."""


class DenseLatent(Latent):
    """A matrix of plain numbers, rounded to the dtype that the file holds."""

    def __init__(self, value: Dense, start: "_Start") -> None:
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

    def __init__(self, scale: Tensor, start: "_Start", *, axes: int) -> None:
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

    def __init__(self, value: Envelope, start: "_Start") -> None:
        """Start at the stored numbers."""
        super().__init__()
        self.rows = ScaleLatent(value.rows, start, axes=2)
        self.cols = None if value.cols is None else ScaleLatent(value.cols, start, axes=1)
        self.group_columns = value.group_columns

    def forward(self) -> Envelope:
        """Return the scales with gradients."""
        return Envelope(self.rows(), None if self.cols is None else self.cols(), self.group_columns)


class GridLatent(Latent):
    """Codes as the rounding of latents of unit mean magnitude, or as fixed indices."""

    codes: Tensor

    def __init__(self, value: Grid, start: "_Start", *, source: Tensor | None) -> None:
        """Start at the value's codes and scales."""
        super().__init__()
        self.alphabet, self.ste, self.slope = value.alphabet, start.options.ste, start.options.ste_slope
        self.scale = None if value.scale is None else EnvelopeLatent(value.scale, start)
        self.shift = None if value.shift is None else EnvelopeLatent(value.shift, start)
        self.latent: nn.Parameter | None = None
        if "codes" in start.train and start.options.kind == "dense":
            self.latent = nn.Parameter(_starting_latent(value, source))
        else:
            self.register_buffer("codes", value.codes)

    def view(self) -> Grid:
        """Return the value with gradients."""
        codes = self.codes if self.latent is None else sign(self.latent, kind=self.ste, slope=self.slope)
        scale, shift = (None if part is None else part() for part in (self.scale, self.shift))
        return Grid(codes, scale, shift, self.alphabet)

    def own(self) -> dict[str, nn.Parameter]:
        """Return the latents, if the codes train."""
        return {} if self.latent is None else {"codes": self.latent}


class ChainLatent(Latent):
    """A latent for each core, and the scale vectors beside them."""

    def __init__(self, value: Chain, start: "_Start") -> None:
        """Start at the value's cores and scales."""
        super().__init__()
        sources: Sequence[Tensor | None] = start.sources or [None] * len(value.cores)
        pairs = zip(value.cores, sources, strict=True)
        self.cores = nn.ModuleList(_leaf(core, start, source) for core, source in pairs)
        vectors = {str(k): scale for k, scale in enumerate(value.scales) if scale is not None}
        self.scales = nn.ModuleDict({k: ScaleLatent(scale, start, axes=1) for k, scale in vectors.items()})
        self.shape, self.out_modes, self.in_modes = value.shape, value.out_modes, value.in_modes

    def view(self) -> Chain:
        """Return the value with gradients."""
        cores = tuple(cast(Latent, core).view() for core in self.cores)
        names = [str(k) for k in range(len(cores) + 1)]
        scales = tuple(self.scales[k]() if k in self.scales else None for k in names)
        return Chain(cast(tuple[Grid | Dense, ...], cores), scales, self.shape, self.out_modes, self.in_modes)


class _Start:
    """How a training starts: what every latent of a tree is told."""

    def __init__(self, options: LatentOptions, train: frozenset[str], sources: Sequence[Tensor] | None) -> None:
        self.options, self.train = options, train
        self.sources = sources if options.source == "solver" else None


def _latent(value: Encoded, start: _Start) -> Latent:
    if isinstance(value, Chain):
        return ChainLatent(value, start)
    (source,) = start.sources or (None,)
    return _leaf(value, start, source)


def _leaf(value: Encoded, start: _Start, source: Tensor | None) -> Latent:
    if isinstance(value, Dense):
        return DenseLatent(value, start)
    if isinstance(value, Grid):
        return GridLatent(value, start, source=source)
    raise ValueError(f"no latent for a value of type {type(value).__name__}")


def _starting_latent(value: Grid, source: Tensor | None) -> Tensor:
    """Return latents of unit mean magnitude inside of their codes' cells, the edge of a cell at its nearest."""
    own = levels(value.codes, alphabet=value.alphabet, dtype=torch.float32)
    if source is None:
        return own
    mean = source.float().abs().mean()
    if source.numel() != own.numel() or not torch.isfinite(mean):
        shapes = f"{tuple(source.shape)} for codes {tuple(own.shape)}"
        raise ValueError(f"a source of shape {shapes}, its mean magnitude {mean:g}")
    latent = source.float().reshape(own.shape) / torch.where(mean > 0, mean, 1.0)
    edge = torch.where(own > 0, 0.0, -torch.finfo(torch.float32).tiny)
    return torch.where((latent >= 0) == (own > 0), latent, edge)
