"""The laws of solvers and factors, for all of the menu, in float64."""

import pytest
import torch

from drawn import chain_form, gram, llm_like, plan_of, seeded, sign_form
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import FACTORS, SOLVERS, codec_of, factor_of, solver_of
from liptt_cli.forms.leaves import DenseForm
from liptt_cli.menu import binarize, decompose, solvers
from liptt_cli.packing.blob import pack

SOLVER_RECORDS = [
    solvers.Direct(),
    solvers.Procrustes(kind="procrustes", iterations=5),
    solvers.Admm(kind="admm", iterations=6, ridge=0.0),
]
FACTOR_RECORDS = [
    decompose.Identity(),
    decompose.TensorTrain(kind="tensor_train", start="svd"),
    decompose.TensorTrain(kind="tensor_train", start="random"),
]
SHAPE = (12, 16)
WEIGHT = llm_like(*SHAPE).to(torch.float64)
FLOAT, BINARY = binarize.FloatCodec(dtype="float32"), binarize.BinaryCodec(kind="binary")
LAYOUTS = [("split", (99,)), ("mpo", (99,)), ("split", (99, 99))]


PLAIN = ("split", (8,))


def takes(solver, factor, structure):
    """Whether a solver can do it: Procrustes turns the one bond between out and in, all others take any chain."""
    one_bond = factor.kind != "identity" and structure[0] == "split" and len(structure[1]) == 1
    return solver.kind != "procrustes" or one_bond


def named(record):
    return "-".join(filter(None, (record.kind, getattr(record, "start", ""))))


CASES = [(f, s, at) for f in FACTOR_RECORDS for s in SOLVER_RECORDS for at in (PLAIN, *LAYOUTS)]
plainly, at_full_rank, refused = (
    pytest.mark.parametrize(
        ("factor", "solver", "structure"),
        cases,
        ids=[f"{named(f)}-{s.kind}-{at[0]}-{len(at[1])}" for f, s, at in cases],
    )
    for cases in (
        [case for case in CASES if takes(case[1], case[0], case[2]) and case[2] == PLAIN],
        [case for case in CASES if takes(case[1], case[0], case[2]) and case[2] != PLAIN],
        [case for case in CASES if not takes(case[1], case[0], case[2])],
    )
)


def test_every_solver_and_factor_of_the_menu_is_here():
    assert {type(record) for record in SOLVER_RECORDS} == set(SOLVERS) - {solvers.ColumnSweep}  # it fits no chain
    assert {type(record) for record in FACTOR_RECORDS} == set(FACTORS)


def form_for(factor, codec, layout, ranks):
    exact = codec.kind == "float"
    if factor.kind == "identity":
        return DenseForm(SHAPE, "float32") if exact else sign_form(*SHAPE)
    return chain_form(SHAPE, ranks, layout=layout, dtype="float32" if exact else None)


def solve(factor, codec, solver, *, metric=None, structure=PLAIN):
    form = form_for(factor, codec, *structure)
    plan = plan_of(form, factor_of(factor), codec_of(codec), solver_of(solver))
    return compress(WEIGHT, plan=plan, metric=metric or Metric(), generator=seeded())


@refused
@pytest.mark.parametrize("codec", [FLOAT, BINARY], ids=lambda record: record.kind)
def test_a_bond_that_cannot_be_turned_is_refused(factor, solver, structure, codec):
    with pytest.raises(ValueError, match="one bond between out and in"):
        solve(factor, codec, solver, structure=structure)


@at_full_rank
@pytest.mark.parametrize("metric", [Metric(), Metric(cols=gram(16))])
def test_with_an_exact_codec_and_full_rank_the_target_comes_back(factor, solver, structure, metric):
    error = solve(factor, FLOAT, solver, structure=structure, metric=metric).error
    if getattr(factor, "start", "") == "random" and solver.kind != "admm":
        assert error > 0.1  # random cores are a start for a solver that fits
    else:
        assert error < 1e-9


@plainly
@pytest.mark.parametrize("codec", [FLOAT, BINARY], ids=lambda record: record.kind)
def test_the_same_generator_gives_the_same_bytes(factor, solver, structure, codec):
    one, again = (pack(solve(factor, codec, solver, structure=structure).value) for _ in range(2))
    assert torch.equal(one, again)


@plainly
@pytest.mark.parametrize("codec", [FLOAT, BINARY], ids=lambda record: record.kind)
def test_an_identity_gram_is_no_metric(factor, solver, structure, codec):
    plain = solve(factor, codec, solver, structure=structure)
    for cols in (torch.ones(16), torch.eye(16)):
        metric = Metric(cols=cols.to(torch.float64))
        found = solve(factor, codec, solver, metric=metric, structure=structure)
        torch.testing.assert_close(found.value.dense(), plain.value.dense(), rtol=1e-3, atol=1e-5)


@plainly
@pytest.mark.parametrize("codec", [FLOAT, BINARY], ids=lambda record: record.kind)
def test_ranks_and_scales_are_those_of_the_form(factor, solver, structure, codec):
    assert solve(factor, codec, solver, structure=structure).value.form == form_for(factor, codec, *structure)
