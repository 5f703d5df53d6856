"""What a chain looks like from one of its cores: the metric of the core, and the target of its linear system.

With all other cores fixed, the weighted error of a chain is quadratic in core X (r_left, m, n, r_right):

    error(X) = const - 2 <T, X> + <X, (G_left (x) O_k (x) C_k (x) G_right) X>

G_left and G_right are the grams of the chain on either side in the metric, O_k and C_k the metric's share of
the core's own modes (`mode_metric`), T the weighted target contracted with both sides.
"""

from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric, Moment, times
from liptt_cli.algebra.mode_metric import ModeMetric, mode_metric
from liptt_cli.formats.chain import Chain
from liptt_cli.tensors.chain import Core, to_modes


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
    cores, modes = _parts(chain, k, metric, dtype)
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
    cores, modes = _parts(chain, k, metric, weight.dtype)
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
    cores, modes = _parts(bare, k, metric, weight.dtype)
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


def _parts(chain: Chain, k: int, metric: Metric, dtype: torch.dtype) -> tuple[list[Core], ModeMetric]:
    """Return the cores with every inner scale in a neighbour that is not core k, and the metric over modes."""
    cores = [chain.core(j, dtype) for j in range(len(chain.cores))]
    for j, bond in enumerate(chain.scales[1:-1], start=1):
        where, axis = (j - 1, 3) if j <= k else (j, 0)
        cores[where] = times(cores[where], None if bond is None else bond.to(dtype), axis=axis)
    return cores, mode_metric(metric.to(dtype), out_modes=chain.out_modes, in_modes=chain.in_modes)


def _matrix(moment: Moment) -> Float[Tensor, "n n"]:
    return moment.diag() if moment.ndim == 1 else moment
