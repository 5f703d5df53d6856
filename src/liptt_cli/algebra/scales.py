"""The scales of a chain whose codes are fixed: exact least squares, energy repair, balance.

Refit is alternating least squares over s_out, the bonds and s_in in the metric; every step is kept only if
the metric error falls, which matters where a chain's metric is only a Kronecker fit. Repair multiplies the
chain by one number so that tr(W^ C W^^T) is the dense weight's: a least-squares fit always loses gain.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.environment import bond_system
from liptt_cli.algebra.gains import multiplied
from liptt_cli.algebra.metric import Metric, Moment, diagonal, times
from liptt_cli.formats.chain import Chain

REFIT_ROUNDS = 3
_RIDGE = 1e-6


def refit(chain: Chain, weight: Float[Tensor, "out in"], metric: Metric) -> Chain:
    """Return the chain with better scales for its codes; the metric error never rises."""
    error = _error(chain, weight, metric)
    for _ in range(REFIT_ROUNDS):
        for k, scale in enumerate(chain.scales):
            if scale is None:
                continue
            trial = _with_scale(chain, k, _best_scale(chain, k, weight, metric))
            trial_error = _error(trial, weight, metric)
            if trial_error < error:
                chain, error = trial, trial_error
    return chain


def repaired(chain: Chain, weight: Float[Tensor, "out in"], metric: Metric) -> Chain:
    """Return the chain times one number, so that its output energy is the weight's."""
    energy = float(metric.error(chain.dense(weight.dtype)).sum())
    return multiplied(chain, (float(metric.error(weight).sum()) / energy) ** 0.5) if energy > 0 else chain


def balanced(chain: Chain) -> Chain:
    """Return the same matrix with the mean magnitude shared out evenly, so that float16 holds every scale."""
    means = [float(s.abs().mean()) for s in chain.scales if s is not None]
    if not means or min(means) == 0:
        return chain
    level = float(torch.tensor(means, dtype=torch.float64).log().mean().exp())
    scales = [None if s is None else s * (level / float(s.abs().mean())) for s in chain.scales]
    return with_scales(chain, scales)


def with_scales(chain: Chain, scales: Sequence[Float[Tensor, " _length"] | None]) -> Chain:
    """Return the chain with other scales."""
    return Chain(chain.cores, tuple(scales), chain.shape, chain.out_modes, chain.in_modes)


def _with_scale(chain: Chain, k: int, scale: Float[Tensor, " _length"]) -> Chain:
    return with_scales(chain, [scale if j == k else s for j, s in enumerate(chain.scales)])


def _error(chain: Chain, weight: Float[Tensor, "out in"], metric: Metric) -> float:
    return float(metric.error(weight - chain.dense(weight.dtype)).sum())


def _best_scale(chain: Chain, k: int, weight: Float[Tensor, "out in"], metric: Metric) -> Float[Tensor, " _length"]:
    """Return the least-squares scale vector at one place of the chain, all else fixed."""
    last = len(chain.scales) - 1
    if 0 < k < last:
        moved, metric = _without_ends(chain, weight, metric)
        return _solve(*bond_system(chain, k, moved, metric))
    bare = with_scales(chain, [None if j == k else s for j, s in enumerate(chain.scales)]).dense(weight.dtype)
    if k == last:
        return _row_scale(bare.T, weight.T, metric.cols, metric.rows)
    return _row_scale(bare, weight, metric.rows, metric.cols)


def _without_ends(
    chain: Chain, weight: Float[Tensor, "out in"], metric: Metric
) -> tuple[Float[Tensor, "out in"], Metric]:
    """Return weight and metric for which the chain without its end scales has the same error."""
    sides = []
    for axis, (end, moment) in enumerate(((chain.scales[0], metric.rows), (chain.scales[-1], metric.cols))):
        if end is None:
            sides.append(moment)
            continue
        weight = weight / _nonzero(end).reshape((-1, 1) if axis == 0 else (1, -1))
        squares = end.square() if moment is None else times(times(moment, end, axis=0), end, axis=moment.ndim - 1)
        sides.append(squares)
    return weight, Metric(*sides)


def _nonzero(scale: Float[Tensor, " length"]) -> Float[Tensor, " length"]:
    """Return the scale with 1 for 0: what stands there weighs nothing afterwards."""
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def _row_scale(
    bare: Float[Tensor, "a b"], weight: Float[Tensor, "a b"], rows: Moment | None, cols: Moment | None
) -> Float[Tensor, " a"]:
    """Return s of least error for `diag(s) bare`."""
    weighted = times(bare, cols, axis=1)
    if rows is None or rows.ndim == 1:
        energy = (weighted * bare).sum(1)
        return (weighted * weight).sum(1) / energy.clamp_min(torch.finfo(energy.dtype).tiny)
    return _solve(rows * (weighted @ bare.T), (weighted * times(weight, rows, axis=0)).sum(1))


def _solve(normal: Float[Tensor, "n n"], right: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    shifted = normal.clone()
    shifted.diagonal().add_(_RIDGE * diagonal(normal).mean() + torch.finfo(normal.dtype).tiny)
    solution: Tensor = torch.linalg.solve(shifted, right)
    return solution
