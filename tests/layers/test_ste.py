"""The straight-through roundings: what they return forwards, and which gradients they let through."""

import pytest
import torch

from liptt_cli.layers.ste import ede_slope, sign, store

LATENT = (-2.0, -0.5, -0.0, 0.0, 0.5, 2.0)


def gradient(kind, upstream, slope=1.0):
    latent = torch.tensor(LATENT, requires_grad=True)
    sign(latent, kind=kind, slope=slope).backward(torch.full((6,), upstream))
    return latent.grad


def test_sign_sends_zero_upwards():
    assert sign(torch.tensor(LATENT), kind="identity").tolist() == [-1, -1, 1, 1, 1, 1]


def test_identity_passes_everything():
    assert gradient("identity", 3.0).tolist() == [3.0] * 6


@pytest.mark.parametrize(("upstream", "passed"), [(1.0, [0, 1, 1, 1, 1, 1]), (-1.0, [1, 1, 1, 1, 1, 0])])
def test_clip_lets_latents_outside_move_inwards_only(upstream, passed):
    assert gradient("clip", upstream).tolist() == [upstream * p for p in passed]


def test_tanh_has_the_slope_of_tanh():
    latent = torch.tensor(LATENT, requires_grad=True)
    torch.tanh(1.7 * latent).sum().backward()
    torch.testing.assert_close(gradient("tanh", 1.0, slope=1.7), latent.grad)


@pytest.mark.parametrize(("progress", "t"), [(0.0, 0.1), (0.5, 1.0), (1.0, 10.0)])
def test_ede_steepens_from_a_wide_low_slope_of_height_one(progress, t):
    """Its height is k t with k = max(1 / t, 1): 1 as long as t is below 1, then t."""
    assert ede_slope(progress) == pytest.approx(t)
    wanted = max(1, t) * (1 - torch.tanh(t * torch.tensor(LATENT)).square())
    torch.testing.assert_close(gradient("ede", 3.0, slope=ede_slope(progress)), 3 * wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_store_rounds_forwards_and_passes_backwards(dtype):
    values = torch.tensor([1.0001, -3.14159, 1e-9], requires_grad=True)
    stored = store(values, dtype)
    assert stored.dtype == torch.float32
    assert torch.equal(stored, values.detach().to(dtype).float())
    stored.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 2.0, 3.0]


def test_store_in_the_values_own_dtype_is_a_copy():
    values = torch.ones(2)
    assert torch.equal(store(values, torch.float32), values)
    assert store(values, torch.float32).data_ptr() != values.data_ptr()
