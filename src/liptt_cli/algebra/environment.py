"""What a chain looks like from one of its cores: the metric of the core, and the target of its linear system.

With all other cores fixed, the weighted error of a chain is quadratic in core X (r_left, m, n, r_right):

    error(X) = const - 2 <T, X> + <X, (G_left (x) O_k (x) C_k (x) G_right) X>

G_left and G_right are the grams of the chain on either side in the metric, O_k and C_k the metric's share of
the core's own modes, T the weighted target contracted with both sides. This needs a metric that is a
Kronecker product over modes. A whole metric on a single mode is (`split` with one in-mode core, all d = 2);
any other is replaced by the product of its partial traces, which is exact if it is one. Padded rows and
columns have target 0 and the mean weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric, Moment, diagonal, times
from liptt_cli.formats.chain import Chain
from liptt_cli.tensors.chain import Core, to_modes


@dataclass(frozen=True)
class Operator:
    """A symmetric positive operator on one axis, with its eigenvalues and vectors on demand."""

    moment: Moment

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor | None]:
        """Return eigenvalues and the matrix of eigenvectors; None for a diagonal."""
        if self.moment.ndim == 1:
            return self.moment, None
        values, vectors = torch.linalg.eigh(self.moment)
        return values.clamp_min(0), vectors


@dataclass(frozen=True)
class CoreMetric:
    """The four factors of a core's metric: left bond, out mode, in mode, right bond; None is 1."""

    axes: tuple[Operator | None, Operator | None, Operator | None, Operator | None]

    @property
    def mean(self) -> float:
        """Return the mean eigenvalue."""
        return prod(float(diagonal(axis.moment).mean()) for axis in self.axes if axis is not None)

    def apply(self, core: Core) -> Core:
        """Return the metric times a core."""
        for axis, operator in enumerate(self.axes):
            core = times(core, None if operator is None else operator.moment, axis=axis)
        return core

    def solve(self, target: Core, *, shift: float) -> Core:
        """Return X of `(metric + shift) X = target`.

        Raises:
            torch.linalg.LinAlgError: if the metric is not finite.
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
        return cast(Tensor, core.reshape(-1, right).T @ weighted.reshape(-1, right))

    def right_gram(self, gram: Tensor, core: Core, k: int) -> Float[Tensor, "bond bond"]:
        """Return the gram of the chain from core k on, from that after it."""
        weighted = self.of_core(k, left=gram.new_ones(1, 1), right=gram).apply(core)
        left = core.shape[0]
        return cast(Tensor, core.reshape(left, -1) @ weighted.reshape(left, -1).T)


def mode_metric(metric: Metric, *, out_modes: Sequence[int], in_modes: Sequence[int]) -> ModeMetric:
    """Return the metric over the modes of a chain; exact on one mode, else the product of partial traces."""
    return ModeMetric(_split(metric.rows, out_modes), _split(metric.cols, in_modes))


def weighted_modes(target: Float[Tensor, "out in"], chain: Chain, metric: ModeMetric) -> Float[Tensor, "*modes"]:
    """Return the padded weight in the order of the chain's modes, times the metric."""
    rows, columns = prod(chain.out_modes), prod(chain.in_modes)
    padded = torch.nn.functional.pad(target, (0, columns - target.shape[1], 0, rows - target.shape[0]))
    padded = padded.reshape(*chain.out_modes, *chain.in_modes)
    for axis, operator in enumerate((*metric.out, *metric.into)):
        padded = times(padded, None if operator is None else operator.moment, axis=axis)
    return to_modes(padded.reshape(rows, columns), out_modes=chain.out_modes, in_modes=chain.in_modes)


def absorb_left(rest: Float[Tensor, "left mode_rest"], core: Core) -> Float[Tensor, "right rest"]:
    """Contract the first core into what is left of the target, whose first axis is the bond before it."""
    flat = core.reshape(-1, core.shape[3])
    return flat.T @ rest.reshape(len(flat), -1)


def absorb_right(rest: Float[Tensor, "rest_mode right"], core: Core) -> Float[Tensor, "rest left"]:
    """Contract the last core into what is left of the target, whose last axis is the bond after it."""
    flat = core.reshape(core.shape[0], -1)
    return rest.reshape(-1, flat.shape[1]) @ flat.T


def core_metric(chain: Chain, k: int, metric: Metric, *, dtype: torch.dtype = torch.float32) -> Metric:
    """Return the metric of core k as the matrix (r_left m, n r_right), with the scales of inner bonds in it.

    The chain's end scales are left out: a caller moves them into weight and metric.
    """
    cores, modes = _parts(chain, metric, dtype)
    left = right = cores[0].new_ones(1, 1)
    for j in range(k):
        left = modes.left_gram(left, cores[j], j)
    for j in range(len(cores) - 1, k, -1):
        right = modes.right_gram(right, cores[j], j)
    axes = [
        torch.eye(length, dtype=dtype) if operator is None else _matrix(operator.moment)
        for length, operator in zip(cores[k].shape, modes.of_core(k, left=left, right=right).axes, strict=True)
    ]
    return Metric(torch.kron(axes[0], axes[1]), torch.kron(axes[2], axes[3]))


def core_target(chain: Chain, k: int, weight: Float[Tensor, "out in"], metric: Metric) -> Core:
    """Return the right side of core k's linear system, whose matrix is `core_metric`."""
    cores, modes = _parts(chain, metric, weight.dtype)
    rest = weighted_modes(weight, chain, modes).reshape(1, -1)
    for core in cores[:k]:
        rest = absorb_left(rest, core)
    for core in reversed(cores[k + 1 :]):
        rest = absorb_right(rest, core)
    return rest.reshape(cores[k].shape)


def bond_system(
    chain: Chain, k: int, weight: Float[Tensor, "out in"], metric: Metric
) -> tuple[Float[Tensor, "bond bond"], Float[Tensor, " bond"]]:
    """Return the normal matrix and right side of the least-squares scales of the bond before core k."""
    scales = [None if j == k else scale for j, scale in enumerate(chain.scales)]
    bare = Chain(chain.cores, tuple(scales), chain.shape, chain.out_modes, chain.in_modes)
    cores, modes = _parts(bare, metric, weight.dtype)
    left = right = weight.new_ones(1, 1)
    rest = weighted_modes(weight, chain, modes).reshape(1, -1)
    for j in range(k):
        left = modes.left_gram(left, cores[j], j)
        rest = absorb_left(rest, cores[j])
    flat = rest
    for j in range(len(cores) - 1, k - 1, -1):
        right = modes.right_gram(right, cores[j], j)
        flat = absorb_right(flat, cores[j])
    return left * right, flat.reshape(len(left), len(right)).diagonal()


def _parts(chain: Chain, metric: Metric, dtype: torch.dtype) -> tuple[list[Core], ModeMetric]:
    """Return the cores, each inner scale in the core after it, and the metric over their modes."""
    cores = [chain.core(k, dtype) for k in range(len(chain.cores))]
    for k, bond in enumerate(chain.scales[1:-1], start=1):
        cores[k] = times(cores[k], None if bond is None else bond.to(dtype), axis=0)
    return cores, mode_metric(metric.to(dtype), out_modes=chain.out_modes, in_modes=chain.in_modes)


def _split(moment: Moment | None, modes: Sequence[int]) -> tuple[Operator | None, ...]:
    if moment is None:
        return (None,) * len(modes)
    mean = diagonal(moment).mean()
    moment = _pad(moment, prod(modes), mean)
    long = [k for k, mode in enumerate(modes) if mode > 1] or [0]
    parts: list[Operator | None] = [None] * len(modes)
    for k in long:
        part = moment if len(long) == 1 else _partial_trace(moment, modes, k) / (prod(modes) // modes[k])
        parts[k] = Operator(part if k == long[0] else part / mean)
    return tuple(parts)


def _pad(moment: Moment, length: int, mean: Tensor) -> Moment:
    missing = length - len(moment)
    if missing == 0:
        return moment
    filled = mean.expand(missing)
    return torch.cat([moment, filled]) if moment.ndim == 1 else torch.block_diag(moment, filled.diag())


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


def _matrix(moment: Moment) -> Float[Tensor, "n n"]:
    return moment.diag() if moment.ndim == 1 else moment


def _solve_one(target: Core, moment: Tensor, *, axis: int, shift: float) -> Core:
    """Solve along one axis by a Cholesky factor, which is several times cheaper than eigenvectors."""
    shifted = moment.clone()
    shifted.diagonal().add_(shift)
    front = target.movedim(axis, 0)
    solved = torch.cholesky_solve(front.reshape(len(moment), -1), torch.linalg.cholesky(shifted))
    return solved.reshape(front.shape).movedim(0, axis)


def _turn(core: Core, vectors: Tensor | None, *, axis: int, back: bool) -> Core:
    """Go into the eigenbasis of one axis, or back."""
    if vectors is None:
        return core
    return torch.tensordot(vectors if back else vectors.T, core, dims=([1], [axis])).movedim(0, axis)
