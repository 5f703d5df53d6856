"""The contract of a solver, and how fitted cores become a chain.

Laws: an exact codec gives the target back as far as the ranks allow; with a metric of identities a solver
does what it does with none; the same start gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import Axes, Codec, Fit, WeightCodec
from liptt_cli.algebra.gains import multiplied
from liptt_cli.algebra.metric import Metric
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.pieces import Piece
from liptt_cli.tensors.chain import Core, as_matrix

_LEAST_MAGNITUDE = 1e-4  # of the mean one


@dataclass(frozen=True)
class Fitted:
    """A chain of codes and scales, and each core's values before rounding: `sources` at unit scale, `raw` as is."""

    chain: Chain
    sources: tuple[Float[Tensor, "planes _a _b"], ...] | None
    iterations: int = 1
    raw: tuple[Float[Tensor, "planes _a _b"], ...] | None = None


@runtime_checkable
class Solver(Protocol):
    """Fits codes and scales to a weight."""

    def solve(self, target: Float[Tensor, "out in"], *, start: Chain, codec: Codec, metric: Metric) -> Fitted:
        """Return a chain with the start's modes and ranks, and scales where the start has them.

        Raises:
            DivergenceError: if a fit is not finite.
        """
        ...


@dataclass(frozen=True)
class EncodedWeight:
    """A weight in codes and scales, and what its columns were when they were rounded.

    `damping` is the share of the metric's mean diagonal that had to be added to it to go on; mostly nothing.
    """

    piece: Piece
    values: Float[Tensor, "out in"]
    damping: float = 0.0


@runtime_checkable
class Encoder(Protocol):
    """Turns a weight itself into codes and scales."""

    def encode(self, weight: Float[Tensor, "out in"], *, codec: WeightCodec, metric: Metric) -> EncodedWeight:
        """Return the weight encoded.

        Raises:
            DivergenceError: if it is not finite.
        """
        ...


def core_axes(start: Chain, k: int) -> Axes:
    """Return the axes of core k, and which of them the chain has a scale for."""
    bonds = (1, *start.ranks, 1)
    there = [scale is not None for scale in start.scales]
    inner = [False, *there[1:-1], False]
    lengths = (bonds[k], start.out_modes[k], start.in_modes[k], bonds[k + 1])
    return Axes(lengths, (inner[k], there[0], there[-1], inner[k + 1]))


def assemble(start: Chain, fits: Sequence[Fit], values: Sequence[Core], bonds: Sequence[Tensor]) -> Fitted:
    """Return bare codes with every vector moved into the ends and bonds.

    A bond then holds the right vector of one core, the solver's own factor, and the left vector of the
    next. Where the chain has no scale, that product is constant and goes to a scale that it does have.
    """
    rows, columns = start.shape
    vectors = [fit.vectors for fit in fits]
    found = [reduce(torch.kron, [v[1] for v in vectors])[:rows]]
    found += [a[3] * bond * b[0] for a, bond, b in zip(vectors, bonds, vectors[1:], strict=False)]
    found += [reduce(torch.kron, [v[2] for v in vectors])[:columns]]
    kept = [None if scale is None else vector for vector, scale in zip(found, start.scales, strict=True)]
    gain = 1.0
    for vector, scale in zip(found, kept, strict=True):
        gain *= 1.0 if scale is not None else float(vector.mean())
    codes = tuple(fit.bare(as_matrix(core)) for fit, core in zip(fits, values, strict=True))
    chain = Chain(codes, tuple(kept), start.shape, start.out_modes, start.in_modes)
    raw = tuple(as_matrix(core).unsqueeze(0) for core in values)
    return Fitted(chain if gain == 1 else multiplied(chain, gain), tuple(map(unit_source, fits, values)), raw=raw)


def unit_source(fit: Fit, values: Core) -> Float[Tensor, "1 a b"]:
    """Return a core's values over their magnitude, or over its mean where there is next to none, shaped as its codes.

    A magnitude of rank above 1 may vanish somewhere; what stands there weighs nothing, but a quotient would be endless.
    """
    mean = fit.magnitude.mean().clamp_min(torch.finfo(values.dtype).tiny)
    magnitude = torch.where(fit.magnitude > _LEAST_MAGNITUDE * mean, fit.magnitude, mean)
    return (as_matrix(values) / magnitude).unsqueeze(0)
