"""ADMM: alternating least squares with floats, its schedule, what it keeps, and divergence."""

import pytest
import torch

from drawn import chain_form, chain_of, gram, llm_like, normal, seeded
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.codecs.dense import DenseCodec
from liptt_cli.algebra.environment import core_metric, core_target
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.admm import AdmmSolver
from liptt_cli.errors import DivergenceError
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.tensors.chain import as_matrix

WEIGHT = llm_like(12, 16).to(torch.float64)


def solved(form, *, codec, metric=None, seed=0, weight=WEIGHT, **options):
    start = TensorTrainFactor("random").start(weight, form=form, generator=seeded(seed))
    return AdmmSolver(**options).solve(weight, start=start, codec=codec, metric=metric or Metric()), start


def error(chain, metric=None, weight=WEIGHT):
    return float((metric or Metric()).error(weight - chain.dense(torch.float64)).sum())


@pytest.mark.parametrize(("ranks", "layout"), [((5,), "split"), ((4,), "mpo"), ((3, 5), "split"), ((3, 5, 4), "split")])
def test_with_floats_one_sweep_is_one_sweep_of_alternating_least_squares(ranks, layout):
    form = chain_form((12, 16), ranks, layout=layout, dtype="float32")
    metric = Metric(cols=gram(16)) if len(ranks) < 3 and layout == "split" else Metric()
    found, chain = solved(form, codec=DenseCodec("float32"), metric=metric, iterations=1, ridge=0.0)
    for k in range(len(chain.cores)):
        system = core_metric(chain, k, metric, dtype=torch.float64)
        target = as_matrix(core_target(chain, k, WEIGHT, metric))
        core = torch.linalg.solve(system.rows, target) @ torch.linalg.inv(system.cols)
        cores = tuple(Dense(core, "float32") if j == k else c for j, c in enumerate(chain.cores))
        chain = Chain(cores, chain.scales, chain.shape, chain.out_modes, chain.in_modes)
    torch.testing.assert_close(found.chain.dense(torch.float64), chain.dense(torch.float64), rtol=1e-6, atol=1e-8)
    assert found.sources is None


@pytest.mark.parametrize("metric", [Metric(), Metric(cols=gram(16))])
def test_with_floats_it_ends_at_the_best_chain_of_its_rank(metric):
    form = chain_form((12, 16), (5,), dtype="float32")
    found, _ = solved(form, codec=DenseCodec("float32"), metric=metric, iterations=60, ridge=0.0)
    root = torch.eye(16).to(WEIGHT) if metric.cols is None else torch.linalg.cholesky(metric.cols)
    best = float(torch.linalg.svdvals(WEIGHT @ root)[5:].square().sum())
    assert error(found.chain, metric) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("layout", ["split", "mpo"])
def test_with_floats_and_full_rank_the_target_comes_back(layout):
    form = chain_form((12, 16), (99,), layout=layout, dtype="float32")
    found, _ = solved(form, codec=DenseCodec("float32"), iterations=2, ridge=0.0)
    torch.testing.assert_close(found.chain.dense(torch.float64), WEIGHT, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("schedule", ["linear", "cubic"])
@pytest.mark.parametrize("layout", ["split", "mpo"])
def test_sources_round_to_the_codes_and_are_of_unit_size(schedule, layout):
    form = chain_form((12, 16), (8,), layout=layout)
    found, _ = solved(form, codec=BinaryCodec(), iterations=40, rho=schedule)
    for core, source in zip(found.chain.cores, found.sources, strict=True):
        assert source.shape == core.codes.shape
        assert torch.equal((source >= 0).to(torch.uint8), core.codes)
        assert 0.8 < float(source.abs().mean()) < 1.25


def test_without_bond_scales_the_chain_has_none_and_loses_little():
    weight = llm_like(48, 40).to(torch.float64)
    errors = []
    for there in (True, False):
        form = chain_form((48, 40), (20,), bond_scales=there)
        found, _ = solved(form, codec=BinaryCodec(), weight=weight, iterations=60)
        assert (found.chain.scales[1] is not None) == there
        errors.append(error(found.chain, weight=weight))
    assert errors[1] < 1.1 * errors[0]


@pytest.mark.parametrize("metric", [Metric(), Metric(cols=gram(16)), Metric(normal(12).abs(), gram(16))])
def test_more_iterations_than_one_lower_the_error_in_the_metric(metric):
    form = chain_form((12, 16), (8,))
    one, many = (
        error(solved(form, codec=BinaryCodec(), metric=metric, iterations=n)[0].chain, metric) for n in (1, 60)
    )
    assert many < 0.7 * one


def test_padded_modes_and_over_complete_bonds_fit_too():
    form = chain_of((11, 15), ((4, 3), (4, 4)), (20,))
    weight = WEIGHT[:11, :15]
    found, _ = solved(form, codec=BinaryCodec(), weight=weight, iterations=60)
    assert error(found.chain, weight=weight) < 0.25 * float(weight.square().sum())


def test_a_fit_that_is_not_finite_is_an_error_with_advice():
    with pytest.raises(DivergenceError, match="not finite"):
        solved(chain_form((12, 16), (8,)), codec=BinaryCodec(), weight=WEIGHT * 1e200, iterations=2)


GENERAL = Metric(cols=gram(16))
PRODUCT = Metric(cols=torch.kron(gram(4), gram(4, seed=9)))


@pytest.mark.parametrize(("ranks", "layout"), [((8,), "mpo"), ((5, 5), "mpo"), ((3, 9, 4), "split")])
def test_a_metric_that_is_no_product_is_used_as_it_is(ranks, layout):
    form = chain_form((12, 16), ranks, layout=layout)
    options = {"codec": BinaryCodec(), "iterations": 16}
    fitted, whole = (error(solved(form, metric=GENERAL, cg_steps=n, **options)[0].chain, GENERAL) for n in (0, 4))
    assert whole < 0.8 * fitted


def test_a_metric_that_is_a_product_needs_no_conjugate_gradients():
    form = chain_of((12, 16), ((4, 3), (4, 4)), (8,))
    options = {"codec": BinaryCodec(), "iterations": 20, "metric": PRODUCT}
    fitted, whole = (solved(form, cg_steps=n, **options)[0].chain.dense() for n in (0, 4))
    assert torch.equal(fitted, whole)


@pytest.mark.parametrize("layout", ["split", "mpo"])
def test_the_kept_iterate_is_best_in_the_metric_itself(layout):
    """More iterations under one schedule only add iterates to choose from; their losses are errors less a constant."""
    losses = []
    found, start = solved(chain_form((12, 16), (8,), layout=layout), codec=BinaryCodec(), metric=GENERAL, iterations=30)
    solver = AdmmSolver(30)
    sweeps, parts = solver._begun(WEIGHT, start, codec=BinaryCodec(), metric=GENERAL)
    for iteration in range(1, 31):
        parts, _, loss = sweeps.sweep(parts, penalties=solver._penalties(iteration, BinaryCodec()), ridge=0.03)
        losses.append(loss + sweeps.energy)
    assert sweeps.energy == pytest.approx(float(GENERAL.error(WEIGHT).sum()))
    assert error(found.chain, GENERAL) == pytest.approx(min(losses), rel=1e-6)


def test_dbf_solves_thrice_the_first_time_under_the_growing_penalty():
    """Boza and Macko: rho0 = min(1, t / (T - 3))^3 from t = 0, then twice rho 1."""
    solver, codec = AdmmSolver(260, "cubic", 0.03, inner=3), BinaryCodec()
    assert solver._penalties(1, codec) == [0.0, 1.0, 1.0]
    assert solver._penalties(130, codec) == [pytest.approx((129 / 257) ** 3), 1.0, 1.0]
    assert [solver._penalties(t, codec)[0] for t in (258, 259, 260)] == [1.0] * 3
    assert solver._penalties(1, DenseCodec("float32")) == [0.0]
    assert AdmmSolver(400)._penalties(100, codec) == [0.25]


def test_more_solves_in_a_sweep_get_further_in_as_many_sweeps():
    form = chain_form((48, 40), (20,))
    weight = llm_like(48, 40).to(torch.float64)
    one, three = (
        error(solved(form, codec=BinaryCodec(), weight=weight, iterations=12, inner=n)[0].chain, weight=weight)
        for n in (1, 3)
    )
    assert three < one


def test_a_tolerance_ends_it_late_and_costs_little():
    weight, form = llm_like(48, 40).to(torch.float64), chain_form((48, 40), (20,))
    all_, ended, eager = (
        solved(form, codec=BinaryCodec(), weight=weight, iterations=80, tolerance=tolerance)[0]
        for tolerance in (None, 0.02, 1e9)
    )
    assert all_.iterations == 80
    assert 48 < ended.iterations < 80
    assert error(ended.chain, weight=weight) < 1.03 * error(all_.chain, weight=weight)
    assert eager.iterations == 48  # a tenth of 80 after the penalty is at its half


def test_floats_have_no_penalty_to_wait_for():
    form = chain_form((12, 16), (5,), dtype="float32")
    found, _ = solved(form, codec=DenseCodec("float32"), iterations=100, ridge=0.0, tolerance=1e-3)
    assert 10 < found.iterations < 40
