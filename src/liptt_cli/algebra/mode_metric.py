"""A metric over the modes of a chain, and the linear system of one core.

A core (left bond, out mode, in mode, right bond) sees the metric as a product of four factors, one an axis.
This needs a metric that is a Kronecker product over modes. A whole metric on a single mode is (`split` with
one in-mode core, all d = 2); any other is replaced by the product of its partial traces, which is exact if
it is a product. Padded rows and columns get the mean weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric, Moment, along, diagonal, times
from liptt_cli.errors import DivergenceError
from liptt_cli.tensors.chain import Core

_NO_SYSTEM = "the linear system of a core is not finite or not positive; more damping or ridge may help"


@dataclass(frozen=True)
class Operator:
    """A symmetric positive operator on one axis, with its eigenvalues and vectors on demand."""

    moment: Moment

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor | None]:
        """Return eigenvalues and the matrix of eigenvectors; None for a diagonal."""
        if self.moment.ndim == 1:
            return self.moment, None
        if not bool(torch.isfinite(self.moment).all()):
            raise DivergenceError(_NO_SYSTEM)
        values, vectors = torch.linalg.eigh(self.moment)
        return values.clamp_min(0), vectors


@dataclass(frozen=True)
class CoreMetric:
    """The four factors of a core's metric: left bond, out mode, in mode, right bond; None is 1."""

    axes: tuple[Operator | None, Operator | None, Operator | None, Operator | None]

    @property
    def mean(self) -> float:
        """Return the mean eigenvalue."""
        return prod((float(diagonal(axis.moment).mean()) for axis in self.axes if axis is not None), start=1.0)

    def apply(self, core: Core) -> Core:
        """Return the metric times a core."""
        for axis, operator in enumerate(self.axes):
            core = times(core, None if operator is None else operator.moment, axis=axis)
        return core

    def solve(self, target: Core, *, shift: float) -> Core:
        """Return X of `(metric + shift) X = target`.

        Raises:
            DivergenceError: if the system is not finite or not positive.
        """
        present = [(axis, operator) for axis, operator in enumerate(self.axes) if operator is not None]
        if len(present) == 1 and present[0][1].moment.ndim == 2:
            return _solve_one(target, present[0][1].moment, axis=present[0][0], shift=shift)
        spectrum = target.new_ones(1, 1, 1, 1)
        for axis, operator in present:
            values, vectors = operator.eigen
            spectrum = spectrum * values.reshape([-1 if a == axis else 1 for a in range(4)])
            target = _turn(target, vectors, axis=axis, back=False)
        target = target / (spectrum + shift)
        for axis, operator in present:
            target = _turn(target, operator.eigen[1], axis=axis, back=True)
        return target


@dataclass(frozen=True)
class ModeMetric:
    """A metric as a Kronecker product: for each core, the operator on its out mode and on its in mode."""

    out: tuple[Operator | None, ...]
    into: tuple[Operator | None, ...]

    def of_core(self, k: int, *, left: Tensor, right: Tensor) -> CoreMetric:
        """Return core k's metric between the grams of its two sides."""
        return CoreMetric((_bond(left), self.out[k], self.into[k], _bond(right)))

    def left_gram(self, gram: Tensor, core: Core, k: int) -> Float[Tensor, "bond bond"]:
        """Return the gram of the chain up to and including core k, from that before it."""
        weighted = self.of_core(k, left=gram, right=gram.new_ones(1, 1)).apply(core)
        right = core.shape[3]
        return core.reshape(-1, right).T @ weighted.reshape(-1, right)

    def right_gram(self, gram: Tensor, core: Core, k: int) -> Float[Tensor, "bond bond"]:
        """Return the gram of the chain from core k on, from that after it."""
        weighted = self.of_core(k, left=gram.new_ones(1, 1), right=gram).apply(core)
        left = core.shape[0]
        return core.reshape(left, -1) @ weighted.reshape(left, -1).T


def mode_metric(metric: Metric, *, out_modes: Sequence[int], in_modes: Sequence[int]) -> ModeMetric:
    """Return the metric over the modes of a chain; exact on one mode, else the product of partial traces."""
    return ModeMetric(_split(metric.rows, out_modes), _split(metric.cols, in_modes))


def padded(moment: Moment, length: int) -> Moment:
    """Return a moment of more rows or columns, each with the mean weight."""
    missing = length - len(moment)
    if missing == 0:
        return moment
    filled = diagonal(moment).mean().expand(missing)
    return torch.cat([moment, filled]) if moment.ndim == 1 else torch.block_diag(moment, filled.diag())


def _split(moment: Moment | None, modes: Sequence[int]) -> tuple[Operator | None, ...]:
    if moment is None:
        return (None,) * len(modes)
    mean = diagonal(moment).mean()
    moment = padded(moment, prod(modes))
    long = [k for k, mode in enumerate(modes) if mode > 1] or [0]
    parts: list[Operator | None] = [None] * len(modes)
    for k in long:
        part = moment if len(long) == 1 else _partial_trace(moment, modes, k) / (prod(modes) // modes[k])
        parts[k] = Operator(part if k == long[0] else part / mean)
    return tuple(parts)


def _partial_trace(moment: Moment, modes: Sequence[int], k: int) -> Moment:
    """Return the moment on mode k, summed over all others."""
    before, after = prod(modes[:k]), prod(modes[k + 1 :])
    if moment.ndim == 1:
        return moment.reshape(before, modes[k], after).sum((0, 2))
    cut = moment.reshape(before, modes[k], after, before, modes[k], after)
    return torch.einsum("amcanc->mn", cut)


def _bond(gram: Tensor) -> Operator | None:
    """Return the operator of a bond; the gram of an open end is 1."""
    return None if gram.shape == (1, 1) and float(gram) == 1 else Operator(gram)


def _solve_one(target: Core, moment: Tensor, *, axis: int, shift: float) -> Core:
    """Solve along one axis by a Cholesky factor, which is several times cheaper than eigenvectors."""
    shifted = moment.clone()
    shifted.diagonal().add_(shift)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if int(failed):
        raise DivergenceError(_NO_SYSTEM)
    front = target.movedim(axis, 0)
    solved = torch.cholesky_solve(front.reshape(len(moment), -1), factor)
    return solved.reshape(front.shape).movedim(0, axis)


def _turn(core: Core, vectors: Tensor | None, *, axis: int, back: bool) -> Core:
    """Go into the eigenbasis of one axis, or back."""
    return core if vectors is None else along(core, vectors if back else vectors.T, axis=axis)
