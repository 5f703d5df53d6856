"""A core's metric and target against brute force: the quadratic form of the chain's error in that core."""

from itertools import product
from math import prod

import pytest
import torch

from drawn import chain_of, gram, normal, value_of
from liptt_cli.algebra.environment import bond_system, core_metric, core_target
from liptt_cli.algebra.metric import Metric
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense

SPLIT_2 = ((6, 1), (1, 8)), (3,)
SPLIT_3 = ((2, 3, 1), (1, 1, 8)), (2, 4)
SPLIT_4 = ((2, 3, 1, 1), (1, 1, 2, 4)), (2, 4, 3)
PAIRED_2 = ((2, 3), (4, 2)), (5,)
PAIRED_3 = ((2, 1, 3), (2, 2, 2)), (3, 2)
ALL = [SPLIT_2, SPLIT_3, SPLIT_4, PAIRED_2, PAIRED_3]


def chain(structure, *, ends=False):
    modes, ranks = structure
    shape = (prod(modes[0]), prod(modes[1]))
    value = value_of(chain_of(shape, modes, ranks, scales=(ends, True)), seed=1)
    cores = tuple(Dense(normal(*core.form.shape, seed=k), "float32") for k, core in enumerate(value.cores))
    scales = tuple(None if s is None else s.to(torch.float64) for s in value.scales)
    return Chain(cores, scales, value.shape, value.out_modes, value.in_modes)


def replaced(value, k, matrix):
    cores = tuple(Dense(matrix, "float32") if j == k else core for j, core in enumerate(value.cores))
    return Chain(cores, value.scales, value.shape, value.out_modes, value.in_modes).dense(torch.float64)


def jacobian(value, k):
    """The matrix that takes core k, flattened, to the weight, flattened."""
    rows, columns = value.cores[k].form.shape
    units = torch.eye(rows * columns, dtype=torch.float64).reshape(-1, rows, columns)
    return torch.stack([replaced(value, k, unit).flatten() for unit in units], dim=1)


def kronecker(modes, *, seed):
    found = torch.ones(1, 1, dtype=torch.float64)
    for k, mode in enumerate(modes):
        found = torch.kron(found, gram(mode, seed=seed + 5 * k))
    return found


def metrics(structure):
    """Metrics that are exact for the structure: nothing, products over modes, all of a single mode."""
    (out_modes, in_modes), _ = structure
    rows, cols = kronecker(out_modes, seed=1), kronecker(in_modes, seed=50)
    found = [Metric(), Metric(cols=cols), Metric(rows, cols), Metric(rows.diagonal(), None)]
    if max(in_modes) == prod(in_modes):
        found += [Metric(cols=gram(prod(in_modes), seed=9)), Metric(cols=gram(prod(in_modes), seed=9).diagonal())]
    return found


@pytest.mark.parametrize("structure", ALL)
def test_metric_and_target_are_those_of_the_normal_equations(structure):
    value, weight = chain(structure), normal(6, prod(structure[0][1]), seed=3)
    for metric, k in product(metrics(structure), range(len(value.cores))):
        rows, cols = (torch.eye(n, dtype=torch.float64) for n in weight.shape)
        rows, cols = (_matrix(m, unit) for m, unit in ((metric.rows, rows), (metric.cols, cols)))
        map_, outer = jacobian(value, k), torch.kron(rows, cols)
        found = core_metric(value, k, metric, dtype=torch.float64)
        torch.testing.assert_close(torch.kron(found.rows, found.cols), map_.T @ outer @ map_)
        torch.testing.assert_close(core_target(value, k, weight, metric).flatten(), map_.T @ outer @ weight.flatten())


@pytest.mark.parametrize("structure", [SPLIT_2, SPLIT_3])
def test_the_metric_of_an_out_core_is_the_moment_of_its_own_inputs(structure):
    """Exact for split chains with one in-mode core: the partly contracted activations have this gram."""
    value, moment = chain(structure), gram(8, seed=9)
    inputs = torch.linalg.cholesky(moment).T * 8**0.5
    for k in range(len(value.cores) - 1):
        right = value.segment(k + 1, len(value.cores), torch.float64)[..., 0]
        own = torch.einsum("tn,b,bmn->tmb", inputs, value.scales[k + 1], right).flatten(0, 1)
        found = core_metric(value, k, Metric(cols=moment), dtype=torch.float64)
        torch.testing.assert_close(found.cols, own.T @ own / 8)


def test_a_general_gram_on_paired_modes_is_replaced_by_a_product():
    """The product of partial traces: it keeps the trace, and each mode's own moment."""
    value, moment = chain(PAIRED_2), gram(8, seed=9)
    one = Metric(cols=moment)
    fitted = Metric(cols=torch.kron(*(_trace(moment, (4, 2), k) for k in (0, 1))) / moment.trace())
    for k in range(2):
        found, expected = (core_metric(value, k, m, dtype=torch.float64) for m in (one, fitted))
        torch.testing.assert_close(torch.kron(found.rows, found.cols), torch.kron(expected.rows, expected.cols))
    torch.testing.assert_close(fitted.cols.trace(), moment.trace())


@pytest.mark.parametrize("structure", ALL)
def test_the_bond_system_is_that_of_the_normal_equations(structure):
    value, weight = chain(structure), normal(6, prod(structure[0][1]), seed=3)
    metric = metrics(structure)[2]
    outer = torch.kron(metric.rows, metric.cols)
    for k in range(1, len(value.cores)):
        units = torch.eye(len(value.scales[k]), dtype=torch.float64)
        columns = []
        for unit in units:
            scales = tuple(unit if j == k else s for j, s in enumerate(value.scales))
            columns.append(Chain(value.cores, scales, *_structure(value)).dense(torch.float64).flatten())
        map_ = torch.stack(columns, dim=1)
        normal_matrix, right = bond_system(value, k, weight, metric)
        torch.testing.assert_close(normal_matrix, map_.T @ outer @ map_)
        torch.testing.assert_close(right, map_.T @ outer @ weight.flatten())


def _structure(value):
    return value.shape, value.out_modes, value.in_modes


def _matrix(moment, unit):
    if moment is None:
        return unit
    return moment.diag() if moment.ndim == 1 else moment


def _trace(moment, modes, k):
    cut = moment.reshape(*modes, *modes)
    return torch.einsum("abcb->ac" if k == 0 else "abac->bc", cut)
