"""The contract of a codec: fit scales to values, then round any values under these scales.

    fit = codec.fit(values, metric=metric);  encoded = fit.round(values)

Laws: shape kept; doubling the values doubles what is decoded; encoding twice changes nothing.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Grid
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
