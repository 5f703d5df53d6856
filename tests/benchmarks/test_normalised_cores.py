"""The experiment with a normalisation after each core: where it starts, and what it is counted for."""

import pytest
import torch
from normalised_cores import CoreNorm, NormalisedChain
from torch import Tensor

from drawn import chain_form, value_of
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.tuning import LatentOptions


def normalised(kind: str, x: Tensor) -> tuple[NormalisedChain, Tensor]:
    """Return a chain with normalisations that saw `x`, and what the plain chain makes of it."""
    linear = thaw(value_of(chain_form((12, 8), (16,))), options=LatentOptions(), train=["codes", "scales"])
    module = NormalisedChain(linear, kind)
    for norm in module.norms:
        norm.seen = []
    plain = module(x).detach()
    for norm in module.norms:
        norm.settle()
    return module, plain


def test_batch_normalisation_starts_as_the_plain_chain_and_then_normalises() -> None:
    x = torch.randn(4, 10, 8, generator=torch.Generator().manual_seed(0))
    module, plain = normalised("batch", x)
    torch.testing.assert_close(plain, module.linear(x).detach(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(module(x), plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item())
    before = module.norms[0].mean.clone()
    torch.testing.assert_close(module(3 * x).detach(), module(x).detach(), rtol=1e-2, atol=0.05 * plain.std().item())
    assert not torch.equal(module.norms[0].mean, before), "running statistics follow the training batches"


def test_rms_normalisation_forgets_the_size_of_a_token() -> None:
    x = torch.randn(4, 10, 8, generator=torch.Generator().manual_seed(0))
    module, plain = normalised("rms", x)
    torch.testing.assert_close(module(5 * x), module(x), rtol=1e-3, atol=1e-4)
    assert module(x).square().mean().item() == pytest.approx(plain.square().mean().item(), rel=0.5)


def test_gain_and_bias_are_counted_by_channel() -> None:
    assert sum(p.numel() for p in CoreNorm(7, "batch").parameters()) == 14
    assert sum(p.numel() for p in CoreNorm(7, "rms").parameters()) == 7
