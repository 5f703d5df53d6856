"""A core's system under a metric that is no product: against brute force, and against the product where it is one."""

import pytest
import torch

from drawn import chain_of, gram, normal, value_of
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.mode_metric import CoreMetric, Operator, mode_metric
from liptt_cli.algebra.whole_metric import WholeCoreMetric, whole_metric, whole_modes
from liptt_cli.tensors.chain import contract

OUT, IN = (2, 3), (4, 2)
LEFT, CORE, RIGHT = normal(1, 2, 4, 5), normal(5, 3, 2, 4, seed=1), normal(4, 1, 1, 1, seed=2)
GENERAL = Metric(gram(6, seed=3), gram(8, seed=4))
PRODUCT = Metric(
    torch.kron(gram(2, seed=5), gram(3, seed=6)), torch.kron(gram(4, seed=7), gram(2, seed=8)).to(torch.float64)
)


def dense(core):
    return contract([LEFT, core, RIGHT])[0, :, :, 0]


def normal_matrix(metric):
    units = torch.eye(CORE.numel(), dtype=torch.float64).reshape(-1, *CORE.shape)
    images = torch.stack([dense(unit) for unit in units])
    return torch.einsum("xab,ac,ycd,db->xy", images, metric.rows, images, metric.cols)


def system(metric, *, steps=4, start=None):
    """The whole system, preconditioned by the product that is fitted to the metric."""
    modes = mode_metric(metric, out_modes=OUT, in_modes=IN)
    grams = modes.left_gram(torch.ones(1, 1).double(), LEFT, 0), RIGHT.reshape(4, 1) @ RIGHT.reshape(1, 4)
    fitted = CoreMetric((Operator(grams[0]), modes.out[1], modes.into[1], Operator(grams[1])))
    return WholeCoreMetric((LEFT, RIGHT), metric, fitted, torch.zeros_like(CORE) if start is None else start, steps)


@pytest.mark.parametrize("metric", [GENERAL, PRODUCT])
def test_the_operator_is_that_of_the_normal_equations(metric):
    wanted = (normal_matrix(metric) @ CORE.flatten()).reshape(CORE.shape)
    torch.testing.assert_close(system(metric).apply(CORE), wanted)
    weight = normal(6, 8, seed=9)
    felt = metric.rows @ weight @ metric.cols
    torch.testing.assert_close((system(metric).seen(felt) * CORE).sum(), (felt * dense(CORE)).sum())


def test_under_a_product_one_step_is_the_exact_solve():
    whole = system(PRODUCT, steps=1)
    torch.testing.assert_close(whole.solve(CORE, shift=0.1), whole.fitted.solve(CORE, shift=0.1))


def test_more_steps_come_nearer_to_the_solution_which_the_product_misses():
    matrix = normal_matrix(GENERAL) + 0.1 * torch.eye(CORE.numel(), dtype=torch.float64)
    wanted = torch.linalg.solve(matrix, CORE.flatten())

    def distance(found):
        difference = found.flatten() - wanted
        return float(difference @ matrix @ difference)

    distances = [distance(system(GENERAL, steps=steps).solve(CORE, shift=0.1)) for steps in (1, 4, 16)]
    assert distances == sorted(distances, reverse=True)
    missed = distance(system(GENERAL).fitted.solve(CORE, shift=0.1))
    assert distances[1] < 0.6 * missed
    assert distances[2] < 0.01 * missed


def test_only_what_is_no_product_is_whole_and_it_is_padded():
    modes = {"out_modes": OUT, "in_modes": IN}
    assert whole_metric(PRODUCT, **modes) is whole_metric(Metric(), **modes) is None
    assert whole_metric(Metric(cols=gram(8)), out_modes=(6, 1), in_modes=(1, 8)) is None
    assert whole_metric(Metric(cols=torch.ones(8)), **modes) is None
    for part in (Metric(GENERAL.rows), Metric(cols=GENERAL.cols), Metric(cols=torch.arange(1, 9).double())):
        found = whole_metric(part, **modes)
        assert (found.rows is None, found.cols is None) == (part.rows is None, part.cols is None)
    short = whole_metric(Metric(cols=GENERAL.cols[:7, :7]), **modes)
    assert torch.equal(short.cols[:7, :7], GENERAL.cols[:7, :7])
    torch.testing.assert_close(short.cols[7], torch.eye(8).double()[7] * GENERAL.cols[:7, :7].diagonal().mean())


def test_a_weight_is_felt_in_the_order_of_the_modes():
    form = chain_of((5, 7), (OUT, IN), (3,))
    weight = normal(5, 7)
    padded = torch.nn.functional.pad(weight, (0, 1, 0, 1))
    felt = (GENERAL.rows @ padded @ GENERAL.cols).reshape(2, 3, 4, 2).permute(0, 2, 1, 3).reshape(8, 6)
    torch.testing.assert_close(whole_modes(weight, value_of(form), GENERAL), felt)
