"""Normalisations behind cores: they do what they are called, start where the chain is, and need two cores."""

import pytest
import torch
from normalised_cores import CoreNorm, NormalisedChain
from torch import nn

from drawn import chain_form, llm_like, plan_of, seeded
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.layers.trainable import TrainableLinear, thaw
from liptt_cli.menu.tuning import LatentOptions


def linear(ranks: tuple[int, ...] = (8,)) -> TrainableLinear:
    plan = plan_of(chain_form((16, 24), ranks), TensorTrainFactor("svd"), BinaryCodec(), DirectSolver())
    value = compress(llm_like(16, 24), plan=plan, metric=Metric(), generator=seeded()).value
    return thaw(value, options=LatentOptions(), train=["codes", "scales"])


def seen(module: nn.Module, x: torch.Tensor) -> None:
    norms = [each for each in module.modules() if isinstance(each, CoreNorm)]
    for norm in norms:
        norm.seen = []
    with torch.no_grad():
        module(x)
    for norm in norms:
        norm.settle()


@pytest.mark.parametrize("kind", ["rms", "batch"])
def test_it_starts_near_the_chain_without_it(kind: str):
    x = torch.randn(4, 64, 24, generator=seeded(3))
    plain = linear()
    module = NormalisedChain(linear(), kind)
    seen(module, x)
    with torch.no_grad():
        ours, theirs = module(x), plain(x)
    tolerance = 1e-3 if kind == "batch" else 0.6  # a token's own size is lost under rms
    assert float((ours - theirs).norm()) < tolerance * float(theirs.norm())


def test_channels_have_the_size_that_the_gain_says():
    norm = CoreNorm(6, "rms")
    norm.unit.fill_(2.0)
    z = norm(torch.randn(5, 6, generator=seeded(1)))
    torch.testing.assert_close(z.detach().square().mean(-1).sqrt(), torch.full((5,), 2.0), rtol=1e-4, atol=0)


def test_long_chains_are_refused():
    with pytest.raises(ValueError, match="two cores"):
        NormalisedChain(linear((4, 8, 4)), "rms")
