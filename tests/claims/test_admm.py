"""What is claimed of ADMM: the published error of its schedules on a normal matrix, and what a metric is worth.

Relative squared error of a Gaussian 256 x 256 at 1 bit of payload (rank 128), 400 iterations: 0.321 (LB-ADMM's own
schedule, as measured in the method cards; both factors updated from the old ones).
"""

import pytest
import torch

from drawn import chain_form, gram, llm_like, plan_of, seeded
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.admm import AdmmSolver

GAUSS = torch.randn(256, 256, generator=seeded(1))


def fitted(weight, solver, *, metric=Metric(), layout="split", rank=128):  # noqa: B008 - frozen
    plan = plan_of(
        chain_form(tuple(weight.shape), (rank,), layout=layout), TensorTrainFactor("random"), BinaryCodec(), solver
    )
    return compress(weight, plan=plan, metric=metric, generator=seeded())


def test_four_hundred_linear_iterations_reach_the_published_error():
    assert fitted(GAUSS, AdmmSolver(400)).error == pytest.approx(0.321, rel=0.03)


def test_dbf_s_schedule_comes_near_it_with_fewer_sweeps():
    """Its own 260 sweeps of three solves reach 0.3218; here 50, to stay quick."""
    error = fitted(GAUSS, AdmmSolver(50, "cubic", inner=3)).error
    assert error == pytest.approx(0.321, rel=0.06)
    assert error < fitted(GAUSS, AdmmSolver(50, "cubic")).error


@pytest.mark.parametrize("layout", ["split", "mpo"])
def test_more_of_a_correlated_gram_is_better_in_either_layout(layout):
    """Paired modes need the metric itself for that: under its fitted product the gain nearly vanishes."""
    weight, cols = llm_like(64, 64), gram(64, dtype=torch.float32)
    full = Metric(cols=cols + 0.01 * cols.diagonal().mean() * torch.eye(64))
    errors = []
    for metric in (Metric(), Metric(cols=full.cols.diagonal()), full):
        value = fitted(weight, AdmmSolver(40), metric=metric, layout=layout, rank=32).value
        errors.append(float(full.error(weight - value.dense()).sum() / full.error(weight).sum()))
    assert errors[2] < 0.7 * errors[1] < 0.7 * errors[0]
