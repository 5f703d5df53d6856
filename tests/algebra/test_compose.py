"""One weight through the equation: forms are filled, metrics are undone, numbers are the stored ones."""

from dataclasses import replace

import pytest
import torch

from drawn import chain_form, chain_of, gram, llm_like, magnitude_form, normal, plan_of, seeded, sign_form
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.codecs.dense import DenseCodec
from liptt_cli.algebra.codecs.sparse import SparseCodec
from liptt_cli.algebra.compose import Term, compress
from liptt_cli.algebra.factors.identity import IdentityFactor
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.admm import AdmmSolver
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.algebra.solvers.procrustes import ProcrustesSolver
from liptt_cli.errors import IntegrityError
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.zones import sparse_form
from liptt_cli.packing.blob import pack

SHAPE = (24, 40)
WEIGHT = llm_like(*SHAPE)
GRAM = gram(40, dtype=torch.float32)
ADMM = AdmmSolver(15)
RANDOM, SVD = TensorTrainFactor("random"), TensorTrainFactor("svd")
DIRECT = DirectSolver()
PLANS = {
    "dense": plan_of(DenseForm(SHAPE, "float16"), IdentityFactor(), DenseCodec(), DirectSolver()),
    "sign": plan_of(sign_form(*SHAPE), IdentityFactor(), BinaryCodec(), DirectSolver()),
    "sign-row": plan_of(sign_form(*SHAPE, by_column=False), IdentityFactor(), BinaryCodec(["row"]), DirectSolver()),
    "sign-column": plan_of(sign_form(*SHAPE, by_row=False), IdentityFactor(), BinaryCodec(["column"]), DirectSolver()),
    "sign-group": plan_of(
        GridForm(SHAPE, scale=EnvelopeForm(24, 16)), IdentityFactor(), BinaryCodec(["group"], group_columns=16), DIRECT
    ),
    "sign-admm": plan_of(sign_form(*SHAPE), IdentityFactor(), BinaryCodec(), ADMM, refit=True),
    "tt-svd": plan_of(chain_form(SHAPE, (16,), dtype="float16"), SVD, DenseCodec(), DirectSolver()),
    "tt-svd-sign": plan_of(chain_form(SHAPE, (16,)), SVD, BinaryCodec(), DirectSolver()),
    "split": plan_of(chain_form(SHAPE, (16,)), RANDOM, BinaryCodec(), ADMM, refit=True, scale_repair=True),
    "mpo": plan_of(chain_form(SHAPE, (16,), layout="mpo"), RANDOM, BinaryCodec(), ADMM, refit=True),
    "split-4": plan_of(chain_form(SHAPE, (4, 14, 5)), RANDOM, BinaryCodec(), ADMM, refit=True),
    "rotated": plan_of(chain_form(SHAPE, (16,)), SVD, BinaryCodec(), ProcrustesSolver(5)),
    "sparse": plan_of(
        sparse_form(SHAPE, whole_columns=False, count=12, part=DenseForm(SHAPE, "float16")),
        IdentityFactor(),
        SparseCodec(0.3, whole_columns=False),
        DirectSolver(),
    ),
    "magnitudes": plan_of(magnitude_form(SHAPE, (16,)), RANDOM, BinaryCodec(rank=2), ADMM, refit=True),
    "magnitude-whole": plan_of(
        GridForm(SHAPE, scale=EnvelopeForm(24, 40, cols=True, rank=2)), IdentityFactor(), BinaryCodec(rank=2), DIRECT
    ),
    "magnitudes-mpo": plan_of(magnitude_form(SHAPE, (16,), layout="mpo"), RANDOM, BinaryCodec(rank=2), ADMM),
    "magnitudes-4": plan_of(magnitude_form(SHAPE, (4, 14, 5)), RANDOM, BinaryCodec(rank=2), ADMM, scale_repair=True),
    "no-bond": plan_of(chain_form(SHAPE, (16,), bond_scales=False), RANDOM, BinaryCodec(), ADMM),
}

SIGNS = Term(RANDOM, BinaryCodec(), ADMM)
SPARSE = Term(IdentityFactor(), SparseCodec(0.02, whole_columns=False), DIRECT)
COLUMNS = Term(IdentityFactor(), SparseCodec(0.05, whole_columns=True), DIRECT)
CHAIN = chain_form(SHAPE, (16,))


def kept(count, *, whole_columns):
    return sparse_form(SHAPE, whole_columns=whole_columns, count=count, part=DenseForm(SHAPE, "float16"))


def sum_of(parts, residual, **more):
    return plan_of(SumForm(parts), RANDOM, BinaryCodec(), ADMM, refit=True, residual=residual, **more)


PLANS |= {
    "two paths": sum_of((CHAIN, CHAIN), (SIGNS,), scale_repair=True),
    "chain and sparse": sum_of((CHAIN, kept(1, whole_columns=False)), (SPARSE,)),
    "chain and columns": sum_of((CHAIN, kept(2, whole_columns=True)), (COLUMNS,), rounds=2),
    "three": sum_of((CHAIN, CHAIN, kept(1, whole_columns=False)), (SIGNS, SPARSE)),
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


@pytest.mark.parametrize("metric", [Metric(), Metric(cols=GRAM.diagonal())])
def test_sources_of_their_own_size_are_factors_of_the_weight_of_one_norm(metric):
    """As LittleBit and NanoQuant train them: the metric's diagonal undone, both factors equally large."""
    plan = replace(PLANS["tt-svd-sign"], form=chain_form(SHAPE, (24,)), unit_sources=False)
    left, right = compress(WEIGHT, plan=plan, metric=metric, generator=seeded(0)).sources
    torch.testing.assert_close(left[0] @ right[0], WEIGHT, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(left.norm(), right.norm())


@pytest.mark.parametrize("name", ["sign", "split", "mpo", "split-4"])
def test_the_same_seed_gives_the_same_bytes(name):
    one, again = (pack(run(name, Metric(cols=GRAM)).value) for _ in range(2))
    assert torch.equal(one, again)


@pytest.mark.parametrize("metric", [Metric(), Metric(cols=GRAM)])
@pytest.mark.parametrize("name", ["two paths", "chain and sparse", "chain and columns", "three"])
def test_every_term_lowers_the_error(name, metric):
    plan, errors = PLANS[name], []
    for count in range(1, 1 + len(plan.form.parts)):
        form = SumForm(plan.form.parts[:count]) if count > 1 else plan.form.parts[0]
        terms = replace(plan, form=form, residual=plan.residual[: count - 1], rounds=1, scale_repair=False)
        errors.append(compress(WEIGHT, plan=terms, metric=metric, generator=seeded()).error)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.97 * errors[0]


def test_more_rounds_are_never_worse_and_help_where_the_first_term_chose_without_the_second():
    form = SumForm((kept(2, whole_columns=False), CHAIN))
    plan = plan_of(form, IdentityFactor(), SparseCodec(0.05, whole_columns=False), DIRECT, residual=(SIGNS,))
    errors = [
        compress(WEIGHT, plan=replace(plan, rounds=count), metric=Metric(), generator=seeded()).error
        for count in (1, 2, 3)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.99 * errors[0]


def test_a_sum_has_the_sources_of_all_its_grids():
    found = run("three", Metric(cols=GRAM))
    grids = [core for part in found.value.parts[:2] for core in part.cores]
    assert len(found.sources) == len(grids) == 4
    for core, source in zip(grids, found.sources, strict=True):
        assert torch.equal((source >= 0).to(torch.uint8), core.codes)


def test_repair_of_a_sum_keeps_the_energy_of_the_whole():
    metric = Metric(cols=GRAM)
    energy = metric.error(run("two paths", metric).value.dense()).sum()
    assert float(energy) == pytest.approx(float(metric.error(WEIGHT).sum()), rel=1e-3)


def test_a_magnitude_on_each_core_takes_scales_and_metric_over():
    value = run("magnitudes", Metric(cols=GRAM)).value
    assert value.scales == (None, None, None)
    assert all(core.scale.rows.min() >= 0 and core.scale.cols.min() >= 0 for core in value.cores)
    assert run("magnitudes", Metric(cols=GRAM)).error < run("split", Metric(cols=GRAM)).error


def test_too_few_terms_are_refused():
    with pytest.raises(ValueError, match="1 terms do not fill the form sum"):
        compress(WEIGHT, plan=replace(PLANS["two paths"], residual=()), metric=Metric(), generator=seeded())


@pytest.mark.parametrize("name", ["split", "mpo"])
def test_another_seed_starts_elsewhere(name):
    assert not torch.equal(pack(run(name).value), pack(run(name, seed=1).value))


@pytest.mark.parametrize("name", ["sign", "sign-row", "sign-group", "sign-admm", "split", "mpo", "tt-svd-sign"])
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


def test_a_scale_a_group_is_of_least_error_in_the_metric_for_its_signs():
    """The rows' metric leaves through the rows and comes back, so that it moves no scale."""
    cols, rows = GRAM.diagonal(), normal(24, seed=3).abs().float()
    metric = Metric(rows, cols)
    value = run("sign-group", metric).value
    run_of = slice(16, 32)
    expected = (WEIGHT[:, run_of].abs() * cols[run_of]).sum(1) / cols[run_of].sum()
    torch.testing.assert_close(value.scale.rows[0, 0, :, 1].float(), expected, rtol=1e-3, atol=1e-6)
    assert run("sign-group").plain_error < run("sign-row").plain_error


def test_the_iterations_that_were_done_are_told():
    told = {
        name: compress(WEIGHT, plan=PLANS[name], metric=Metric(), generator=seeded()).iterations
        for name in ("sign", "split")
    }
    assert told == {"sign": 1, "split": 15}
