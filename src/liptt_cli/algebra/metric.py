"""What calibration saw of one input, and what an error of a weight costs by it.

    error(E) = tr(rows E cols E^T),      cols = E[x x^T] damped, its diagonal, or nothing

Shrinkage pulls the second moment towards a multiple of the identity, C <- (1 - s) C + s mean(diag C) 1: the
diagonal moves to its mean (NanoQuant, arXiv:2602.06694) and correlations get smaller by the same formula.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Moment = Float[Tensor, " _n"] | Float[Tensor, "_n _n"]


@dataclass(frozen=True)
class Look:
    """How inputs are seen: the `whole` second moment or its diagonal, tokens `clipped` at a percentile."""

    whole: bool
    clip_percentile: float = 100.0


@dataclass(frozen=True)
class Seen:
    """Means over tokens of one input; `+` merges two, in any order and cut."""

    tokens: int
    gram: Float[Tensor, "in in"] | None
    square: Float[Tensor, " in"]

    def __add__(self, other: "Seen") -> "Seen":
        """Return what both saw together."""
        tokens = self.tokens + other.tokens
        share = self.tokens / tokens if tokens else 0.0
        gram = None
        if self.gram is not None and other.gram is not None:
            gram = share * self.gram + (1 - share) * other.gram
        return Seen(tokens, gram, share * self.square + (1 - share) * other.square)


def see(inputs: Float[Tensor, "*lead in"], look: Look) -> Seen:
    """Return the second moment of inputs, or its diagonal alone, in float64."""
    x = inputs.detach().reshape(-1, inputs.shape[-1])
    x = clipped(x if x.dtype == torch.float64 else x.to(torch.float32), look.clip_percentile)
    tokens = max(len(x), 1)
    gram = (x.T @ x).to(torch.float64) / tokens if look.whole else None
    square = x.to(torch.float64).square().sum(0) / tokens
    return Seen(len(x), gram, square)


def clipped(tokens: Float[Tensor, "tokens n"], percentile: float) -> Float[Tensor, "tokens n"]:
    """Shorten the tokens whose norm exceeds that percentile of the norms to it; 100 leaves all as they are.

    The percentile is that of the batch in hand: moments are summed in one pass, and a second one for a
    percentile over everything would double the cost of seeing. (NanoQuant keeps the largest so far.)
    """
    if percentile >= 100 or len(tokens) == 0:
        return tokens
    norms = tokens.norm(dim=1)
    most = norms.kthvalue(max(1, round(percentile / 100 * len(norms)))).values
    shorter: Tensor = most / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    return tokens * shorter.clamp_max(1).unsqueeze(1)


@dataclass(frozen=True)
class Metric:
    """The cost of errors: each side nothing, a diagonal, or a symmetric positive matrix.

    `pivot` is what a solver that sweeps over columns divides errors by: the diagonal of the upper Cholesky factor of
    cols^-1, of the whole weight. It is None outside of such a sweep.
    """

    rows: Moment | None = None
    cols: Moment | None = None
    pivot: Float[Tensor, " _n"] | None = None

    def error(self, e: Float[Tensor, "a b"]) -> Float[Tensor, " a"]:
        """Return each row's share of `tr(rows E cols E^T)`."""
        return (times(times(e, self.cols, axis=1), self.rows, axis=0) * e).sum(1)

    def to(self, dtype: torch.dtype) -> "Metric":
        """Return it in another dtype."""
        return Metric(*(None if m is None else m.to(dtype) for m in (self.rows, self.cols, self.pivot)))

    def columns(self, start: int, stop: int) -> "Metric":
        """Return the metric of a range of columns, the others held fixed."""
        cols = self.cols
        if cols is not None:
            cols = cols[start:stop] if cols.ndim == 1 else cols[start:stop, start:stop]
        return Metric(self.rows, cols, None if self.pivot is None else self.pivot[start:stop])


def metric(seen: Seen, kind: Literal["none", "diagonal", "full"], *, damping: float, shrinkage: float) -> Metric:
    """Return what an error in a weight with these inputs costs.

    Args:
        seen: the inputs.
        kind: how much of their second moment counts.
        damping: share of the mean diagonal that is added to the diagonal.
        shrinkage: share of the second moment that is replaced by its mean diagonal.

    Raises:
        ValueError: if `kind` is full and no gram was collected.
    """
    if kind == "none":
        return Metric()
    if kind == "diagonal":
        return Metric(cols=shrunk(seen.square, damping=damping, shrinkage=shrinkage))
    if seen.gram is None:
        raise ValueError("the full metric needs the gram, but only its diagonal was collected")
    added = (shrinkage + damping) * seen.square.mean()
    return Metric(cols=(1 - shrinkage) * seen.gram + added * torch.eye(len(seen.gram)).to(seen.gram))


def shrunk(squares: Float[Tensor, " n"], *, damping: float, shrinkage: float) -> Float[Tensor, " n"]:
    """Return mean squares pulled towards their mean, which is the diagonal of a `metric`."""
    return (1 - shrinkage) * squares + (shrinkage + damping) * squares.mean()


def times(values: Float[Tensor, "*axes"], moment: Moment | None, *, axis: int) -> Float[Tensor, "*axes"]:
    """Multiply one axis by a symmetric moment: by nothing, a diagonal or a matrix."""
    if moment is None:
        return values
    if moment.ndim == 1:
        return values * moment.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return along(values, moment, axis=axis)


def along(values: Float[Tensor, "*axes"], matrix: Float[Tensor, "n n"], *, axis: int) -> Float[Tensor, "*axes"]:
    """Multiply one axis by a matrix from the left."""
    if axis == values.ndim - 1:
        return values @ matrix.T
    product: Tensor = torch.tensordot(matrix, values, dims=([1], [axis]))
    return product.movedim(0, axis)


def diagonal(moment: Moment) -> Float[Tensor, " n"]:
    """Return the diagonal of a moment."""
    return moment if moment.ndim == 1 else moment.diagonal()
