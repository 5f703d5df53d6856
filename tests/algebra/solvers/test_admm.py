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
