"""LittleBit (arXiv:2506.13771) and LittleBit-2 (arXiv:2603.00042) are recipes of the pieces that are there."""

import pytest
import torch

from drawn import chain_form, llm_like, plan_of, seeded
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.compose import Term, compress
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.admm import AdmmSolver
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.algebra.solvers.procrustes import ProcrustesSolver
from liptt_cli.forms.base import Form
from liptt_cli.forms.sum import SumForm
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.price import ladder

PATH = {"kind": "tensor_train", "start": "svd"}
SIGNS = {"kind": "binary", "scale": ["axes"]}
LLAMA = [(4096, 4096), (11008, 4096), (4096, 11008), (1024, 4096), (5120, 13824)]


def fitted(weight: torch.Tensor, form: Form, solver, *, start="svd", paths=1) -> torch.Tensor:
    term = Term(TensorTrainFactor(start), BinaryCodec(iterations=60), solver)
    whole = SumForm((form,) * paths) if paths > 1 else form
    plan = plan_of(whole, term.factor, term.codec, term.solver, residual=(term,) * (paths - 1))
    return compress(weight, plan=plan, metric=Metric(), generator=seeded()).value.dense()


def rank_one_of(magnitude: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    u, s, v = torch.linalg.svd(magnitude, full_matrices=False)
    return u[:, 0].abs() * s[0].sqrt(), s[0].sqrt() * v[0].abs()


def dual_svid(weight: torch.Tensor, rank: int) -> torch.Tensor:
    """The formula of the paper, word by word."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    left, right = u[:, :rank] * s[:rank].sqrt(), s[:rank].sqrt().unsqueeze(1) * v[:rank]
    h, latent_left = rank_one_of(left.abs())
    latent_right, g = rank_one_of(right.abs())
    signs = [torch.where(factor >= 0, 1.0, -1.0) for factor in (left, right)]
    return torch.diag(h) @ signs[0] @ torch.diag(latent_left * latent_right) @ signs[1] @ torch.diag(g)


@pytest.mark.parametrize("shape", [(32, 48), (48, 32)])
def test_two_chains_by_svd_are_dual_svid_and_its_residual_path(shape: tuple[int, int]):
    weight, form = llm_like(*shape), chain_form(shape, (8,))
    first = dual_svid(weight, 8)
    assert (fitted(weight, form, DirectSolver()) - first).norm() < 1e-3 * first.norm()  # float16 of the scales
    both = first + dual_svid(weight - first, 8)
    assert (fitted(weight, form, DirectSolver(), paths=2) - both).norm() < 1e-3 * both.norm()


@pytest.mark.parametrize("shape", LLAMA)
@pytest.mark.parametrize("paths", [1, 2])
def test_ranks_are_those_of_the_paper_s_formula(shape: tuple[int, int], paths: int):
    rows, columns = shape
    residual = [{"factor": PATH, "codec": SIGNS}] * (paths - 1)
    tree = {"method": "littlebit", "bits_per_weight": 1.0, "decompose": {"factor": PATH}}
    config = RunConfig.model_validate({**tree, "binarize": {"codec": SIGNS, "residual": residual}})
    found = ladder(config, shape)
    for bits in (0.1, 0.3, 0.55, 0.7, 0.8, 1.0):
        budget = bits * rows * columns - 16 * paths * (rows + columns)
        wanted = 8 * int(budget / (paths * (rows + columns + 16)) / 8)
        form = found.forms[found.best(bits)]
        chains = form.parts if isinstance(form, SumForm) else (form,)
        assert {chain.ranks for chain in chains} == {(wanted,)}


@pytest.mark.parametrize("rank", [32, 64])
def test_a_rotated_bond_lies_between_plain_signs_and_the_fit(rank: int):
    weight, form = llm_like(128, 160), chain_form((128, 160), (rank,))

    def error(solver, *, start="svd"):
        return float((weight - fitted(weight, form, solver, start=start)).square().sum() / weight.square().sum())

    direct, rotated, fit = error(DirectSolver()), error(ProcrustesSolver()), error(AdmmSolver(40), start="random")
    assert fit < 0.85 * rotated < 0.85 * 0.85 * direct
