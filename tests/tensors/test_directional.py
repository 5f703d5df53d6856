"""The gain along a direction: equal to the spectral norm of a linear block, window by window."""

import pytest
import torch

from liptt_cli.tensors.directional import stretch, worst_push


def draw(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=draw(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_linear_block_has_its_spectral_norm_as_gain(dtype):
    weight, at = normal(24, 24, seed=1, dtype=dtype), normal(2, 10, 24, dtype=dtype)

    def branch(h):
        return h @ weight.T

    sigma = torch.linalg.matrix_norm(weight, ord=2)
    gain = stretch(branch, at, worst_push(branch, at, steps=40, generator=draw(2)))
    torch.testing.assert_close(gain, sigma.expand(2), rtol=1e-2, atol=0)
    once, none = (stretch(branch, at, worst_push(branch, at, steps=steps, generator=draw(2))) for steps in (1, 0))
    assert (none < once).all() and (once < sigma * (1 + 1e-4)).all()


def test_a_branch_that_bends_has_the_norm_of_its_jacobian_at_each_window():
    weight, at = normal(5, 5, seed=1), normal(2, 3, 5)

    def branch(h):
        return torch.tanh(h @ weight.T)

    gain = stretch(branch, at, worst_push(branch, at, steps=100, generator=draw(2)))
    for window in range(2):
        jacobian = torch.autograd.functional.jacobian(branch, at[window]).reshape(15, 15)
        exact = torch.linalg.matrix_norm(jacobian, ord=2)
        torch.testing.assert_close(gain[window], exact, rtol=5e-2, atol=0)  # the step is no infinitesimal


def test_a_massive_token_does_not_set_the_size_of_the_step():
    at = normal(1, 9, 4)
    at[0, 0] *= 1000
    push = worst_push(lambda h: 2 * h, at, steps=1, generator=draw(0))
    assert push.norm() == pytest.approx(1e-2 * at[0].norm(dim=1).median().item(), rel=1e-6)


def test_a_silent_branch_has_no_gain():
    at = normal(2, 3, 4)
    push = worst_push(lambda h: 0 * h, at, steps=2, generator=draw(0))
    assert stretch(lambda h: 0 * h, at, push).tolist() == [0.0, 0.0]
