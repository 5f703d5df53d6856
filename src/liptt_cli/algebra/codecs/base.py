"""The contracts of codecs: fit scales to values, then round any values under these scales.

    fit = codec.fit(values, metric=metric);  encoded = fit.round(values)

A `Codec` serves the cores of a chain, whose scales move to ends and bonds. A `WeightCodec` serves a weight itself, one
range of columns after another, and may be made of other codecs.

Laws: shape kept; doubling the values doubles what is decoded; encoding twice changes nothing. Of weight codecs also:
entries outside of `where` do not influence the fit; rounding a range is that range of the rounding.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Grid
from liptt_cli.formats.pieces import Piece
from liptt_cli.formats.zones import Zones


@dataclass(frozen=True)
class Axes:
    """How the matrix of a core splits into (left bond, out mode, in mode, right bond), and which have scales."""

    lengths: tuple[int, int, int, int]
    scaled: tuple[bool, bool, bool, bool]


@runtime_checkable
class Fit(Protocol):
    """Scales that were fitted to some values."""

    @property
    def vectors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the scale of each of the four axes; their outer product times `bare` is `round`."""
        ...

    @property
    def magnitude(self) -> Tensor:
        """Return the scale of each entry, in a shape that broadcasts to the values."""
        ...

    def round(self, values: Float[Tensor, "a b"]) -> Encoded:
        """Return the values rounded under these scales."""
        ...

    def bare(self, values: Float[Tensor, "a b"]) -> Grid | Dense | Zones:
        """Return the same codes without the vectors, for a chain that holds these at its bonds."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Turns values into codes and scales."""

    @property
    def exact(self) -> bool:
        """Return whether `round` gives the values back, so that a solver needs no penalty."""
        ...

    def fit(self, values: Float[Tensor, "a b"], *, metric: Metric, axes: Axes | None = None) -> Fit:
        """Return scales for the values; without `axes`, rows are the out mode and columns the in mode."""
        ...


@runtime_checkable
class WeightFit(Protocol):
    """What was fitted to a range of columns."""

    def round(self, values: Float[Tensor, "out some"], *, start: int = 0) -> Piece:
        """Return values of the fitted columns from `start` on, rounded; they may differ from those of the fit."""
        ...


@runtime_checkable
class WeightCodec(Protocol):
    """Turns a weight into codes and scales, `group_columns` at a time."""

    @property
    def needs_pivot(self) -> bool:
        """Return whether it looks at `metric.pivot`."""
        ...

    @property
    def group_columns(self) -> int | None:
        """Return how many columns a fit covers at least, so that none of its groups is cut; None for all columns."""
        ...

    @property
    def step_columns(self) -> int | None:
        """Return how many columns are rounded together, 1 mostly; None: a whole fit, as where a mask divides it."""
        ...

    def prepare(self, weight: Float[Tensor, "out in"], *, metric: Metric) -> "WeightCodec":
        """Return the codec with all that is chosen once for the whole weight, such as a mask; mostly itself."""
        ...

    def columns(self, start: int, stop: int) -> "WeightCodec":
        """Return the prepared codec of a range of columns; mostly itself."""
        ...

    def fit(
        self, values: Float[Tensor, "out some"], *, metric: Metric, where: Bool[Tensor, "out some"] | None = None
    ) -> WeightFit:
        """Return scales for a range of columns; only entries in `where` count, all if None."""
        ...
