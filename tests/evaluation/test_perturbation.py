"""A disturbed model: coarse activations and a noisy input, for dense and packed models alike."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import liptt_cli  # noqa: F401  # registers the packed format
from liptt_cli.errors import ModelError
from liptt_cli.evaluation.perturbation import Perturbation, perturbed, rounded
from liptt_cli.layers.packed import PackedLinear

NONE = Perturbation()
IDS = torch.arange(64).reshape(4, 16)


def logits(model: Any, perturbation: Perturbation = NONE, *, seed: int = 0) -> torch.Tensor:
    with torch.no_grad(), perturbed(model, perturbation, seed=seed):
        return model(input_ids=IDS).logits


def distance(model: Any, perturbation: Perturbation, *, seed: int = 0) -> float:
    clean = logits(model)
    return ((logits(model, perturbation, seed=seed) - clean).norm() / clean.norm()).item()


@pytest.fixture(scope="module")
def packed(packed_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(packed_llama).eval()


def test_a_token_s_grid_reaches_its_largest_magnitude_and_has_few_levels() -> None:
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [100.0], [0.0]])
    for bits in (8, 4, 2):
        found = rounded(x, bits=bits)
        assert torch.equal(rounded(found, bits=bits), found) or bits == 8
        torch.testing.assert_close(found.abs().amax(1), x.abs().amax(1))
        step = x.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert ((found - x).abs() <= 0.5001 * step).all()
        assert len(found[0].unique()) <= 2**bits - 1


@pytest.mark.parametrize("family", ["dense", "packed"])
def test_coarser_activations_and_more_noise_move_the_logits_further(family: str, tiny_llama: Path, packed: Any) -> None:
    model = packed if family == "packed" else AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    eight, four, two = (distance(model, Perturbation(activation_bits=bits)) for bits in (8, 4, 2))
    assert 0 < eight < four < two and eight < 0.05
    little, much = (distance(model, Perturbation(input_noise=share)) for share in (0.01, 0.3))
    assert 0 < little < 0.05 < much
    assert torch.equal(logits(model, Perturbation(input_noise=0.0)), logits(model))
    assert not [hook for module in model.modules() for hook in module._forward_pre_hooks]


def test_the_noise_is_the_seed_s(packed: Any) -> None:
    noise = Perturbation(input_noise=0.1)
    assert torch.equal(logits(packed, noise, seed=1), logits(packed, noise, seed=1))
    assert not torch.equal(logits(packed, noise, seed=1), logits(packed, noise, seed=2))


def test_every_linear_of_the_blocks_and_no_other_is_coarse(tiny_models: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_models).eval()
    with perturbed(model, Perturbation(activation_bits=8), seed=0):
        hooked = [name for name, module in model.named_modules() if module._forward_pre_hooks]
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | PackedLinear)]
    assert hooked == [name for name in linears if "lm_head" not in name and "decoys" not in name]
    assert distance(model, Perturbation(input_noise=0.1)) > 0


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing to disturb"), perturbed(nn.ReLU(), Perturbation(8), seed=0):
        pass
    with perturbed(nn.ReLU(), Perturbation(), seed=0):
        pass
