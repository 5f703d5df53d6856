"""One weight through the equation: forms are filled, metrics are undone, numbers are the stored ones."""

import pytest
import torch

from drawn import chain_form, chain_of, gram, llm_like, normal, plan_of, seeded, sign_form
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.codecs.dense import DenseCodec
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.factors.identity import IdentityFactor
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.admm import AdmmSolver
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.errors import IntegrityError
from liptt_cli.forms.leaves import DenseForm
from liptt_cli.packing.blob import pack

SHAPE = (24, 40)
WEIGHT = llm_like(*SHAPE)
GRAM = gram(40, dtype=torch.float32)
ADMM = AdmmSolver(15)
RANDOM, SVD = TensorTrainFactor("random"), TensorTrainFactor("svd")
PLANS = {
    "dense": plan_of(DenseForm(SHAPE, "float16"), IdentityFactor(), DenseCodec(), DirectSolver()),
    "sign": plan_of(sign_form(*SHAPE), IdentityFactor(), BinaryCodec(), DirectSolver()),
    "sign-row": plan_of(sign_form(*SHAPE, by_column=False), IdentityFactor(), BinaryCodec(["row"]), DirectSolver()),
    "sign-column": plan_of(sign_form(*SHAPE, by_row=False), IdentityFactor(), BinaryCodec(["column"]), DirectSolver()),
    "sign-admm": plan_of(sign_form(*SHAPE), IdentityFactor(), BinaryCodec(), ADMM, refit=True),
    "tt-svd": plan_of(chain_form(SHAPE, (16,), dtype="float16"), SVD, DenseCodec(), DirectSolver()),
    "tt-svd-sign": plan_of(chain_form(SHAPE, (16,)), SVD, BinaryCodec(), DirectSolver()),
    "split": plan_of(chain_form(SHAPE, (16,)), RANDOM, BinaryCodec(), ADMM, refit=True, scale_repair=True),
    "mpo": plan_of(chain_form(SHAPE, (16,), layout="mpo"), RANDOM, BinaryCodec(), ADMM, refit=True),
    "split-4": plan_of(chain_form(SHAPE, (4, 14, 5)), RANDOM, BinaryCodec(), ADMM, refit=True),
    "no-bond": plan_of(chain_form(SHAPE, (16,), bond_scales=False), RANDOM, BinaryCodec(), ADMM),
}


def run(name, metric=None, *, weight=WEIGHT, seed=0):
    return compress(weight, plan=PLANS[name], metric=metric or Metric(), generator=seeded(seed))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("metric", [Metric(), Metric(cols=GRAM.diagonal()), Metric(cols=GRAM)])
def test_the_form_is_filled_and_the_errors_are_those_of_the_stored_numbers(name, metric):
    found = run(name, metric)
    assert found.value.form == PLANS[name].form
    difference = WEIGHT - found.value.dense()
    assert found.error == pytest.approx(float(metric.error(difference).sum() / metric.error(WEIGHT).sum()))
    assert found.plain_error == pytest.approx(float(difference.square().sum() / WEIGHT.square().sum()))
    assert found.error < 0.9
    assert all(torch.equal(t, found.value.settled().fields()[n]) for n, t in found.value.fields().items())


@pytest.mark.parametrize("name", ["sign", "split", "mpo", "split-4"])
def test_the_same_seed_gives_the_same_bytes(name):
    one, again = (pack(run(name, Metric(cols=GRAM)).value) for _ in range(2))
    assert torch.equal(one, again)


@pytest.mark.parametrize("name", ["split", "mpo"])
def test_another_seed_starts_elsewhere(name):
    assert not torch.equal(pack(run(name).value), pack(run(name, seed=1).value))


@pytest.mark.parametrize("name", ["sign", "sign-row", "sign-admm", "split", "mpo", "tt-svd-sign"])
def test_a_metric_of_ones_is_no_metric(name):
    plain = pack(run(name).value)
    assert torch.equal(plain, pack(run(name, Metric(cols=torch.ones(40))).value))


@pytest.mark.parametrize("name", ["split", "mpo", "sign-admm"])
def test_an_identity_gram_is_no_metric(name):
    plain, whole = run(name), run(name, Metric(cols=torch.eye(40)))
    assert whole.error == pytest.approx(plain.error, rel=0.02)


@pytest.mark.parametrize("name", ["sign", "split", "split-4", "mpo", "sign-admm"])
def test_the_metric_is_paid_for_where_it_looks(name):
    diagonal = Metric(cols=GRAM.diagonal())
    assert run(name, diagonal).error < float(_error(run(name).value, diagonal))


@pytest.mark.parametrize("name", ["split", "sign-admm"])
def test_the_full_metric_beats_its_diagonal_in_its_own_terms(name):
    full = Metric(cols=GRAM)
    assert run(name, full).error < 0.8 * float(_error(run(name, Metric(cols=GRAM.diagonal())).value, full))


def test_repair_keeps_the_energy_up_to_float16():
    metric = Metric(cols=GRAM)
    energy = metric.error(run("split", metric).value.dense()).sum()
    assert float(energy) == pytest.approx(float(metric.error(WEIGHT).sum()), rel=1e-3)


def test_sources_have_the_shape_of_the_codes_and_round_to_them():
    found = run("split", Metric(cols=GRAM))
    for core, source in zip(found.value.cores, found.sources, strict=True):
        assert torch.equal((source >= 0).to(torch.uint8), core.codes)
    assert run("tt-svd").sources is None or len(run("tt-svd").sources) == 2


def test_float_chains_at_full_rank_are_exact_up_to_their_dtype():
    form = chain_of(SHAPE, ((6, 4), (5, 8)), (99,), scales=(False, False), dtype="float32")
    found = compress(
        WEIGHT, plan=plan_of(form, SVD, DenseCodec("float32"), DirectSolver()), metric=Metric(), generator=seeded()
    )
    assert found.error < 1e-10
    assert found.value.ranks == (30,)


@pytest.mark.parametrize("name", PLANS)
def test_a_weight_of_zeros_stays_zero(name):
    found = run(name, weight=torch.zeros(SHAPE))
    assert not found.value.dense().any()
    assert (found.error, found.plain_error) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["sign", "split", "mpo"])
def test_dead_rows_columns_and_inputs_are_no_trouble(name):
    weight, cols = WEIGHT.clone(), GRAM.diagonal().clone()
    weight[3], weight[:, 7], cols[9] = 0, 0, 0
    found = run(name, Metric(cols=cols), weight=weight)
    assert bool(torch.isfinite(found.value.dense()).all())
    assert found.error < 0.6


@pytest.mark.parametrize("name", ["sign", "split", "tt-svd-sign"])
def test_half_precision_weights_are_computed_in_float32(name):
    half = WEIGHT.to(torch.bfloat16)
    assert torch.equal(pack(run(name, weight=half).value), pack(run(name, weight=half.float()).value))


def test_numbers_that_are_not_finite_are_named():
    weight = WEIGHT.clone()
    weight[1, 2] = torch.nan
    with pytest.raises(IntegrityError, match="weight: 1 of 960 numbers are not finite"):
        run("sign", weight=weight)
    with pytest.raises(IntegrityError, match="cols of the metric: 40 of 40 numbers"):
        run("sign", Metric(cols=torch.full((40,), torch.inf)))


def test_doubling_the_weight_doubles_what_is_stored():
    for name in ("sign", "split", "mpo"):
        one, two = run(name).value.dense(), run(name, weight=2 * WEIGHT).value.dense()
        torch.testing.assert_close(two, 2 * one, rtol=2e-3, atol=1e-4)


def _error(value, metric):
    return metric.error(WEIGHT - value.dense()).sum() / metric.error(WEIGHT).sum()


def test_row_weights_leave_through_the_rows():
    rows = (2 * normal(24, dtype=torch.float32)).exp()
    assert run("split", Metric(rows=rows)).error < float(_error(run("split").value, Metric(rows=rows)))
