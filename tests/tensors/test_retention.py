"""The gain of a block: equal to the spectral norm where there is one, blind to what must not count."""

import pytest
import torch

from liptt_cli.tensors.retention import Passage, Probe, leading_gain


def draw(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=draw(seed), dtype=torch.float64)


def whitened(positions, width):
    q, _ = torch.linalg.qr(normal(positions, width))
    return (q * positions**0.5)[None]


def gains(student, teacher, *, seed=7, **options):
    return Probe(**options).gains(student, teacher, generator=draw(seed))


def test_whitened_inputs_and_a_linear_block_give_the_spectral_norm():
    x, weight = whitened(96, 24), normal(24, 24, seed=1)
    found = leading_gain(x, x @ weight.T, steps=30, start=normal(24, seed=2))
    sigma = torch.linalg.matrix_norm(weight, ord=2)
    torch.testing.assert_close(found, sigma[None], rtol=1e-2, atol=0)
    few = leading_gain(x, x @ weight.T, steps=4, start=normal(24, seed=2))
    assert 0.9 * sigma < few.item() <= sigma * (1 + 1e-9)


def test_each_window_has_its_own_gain():
    x, d = normal(3, 40, 8), normal(3, 40, 8, seed=1)
    start = normal(8, seed=2)
    together = leading_gain(x, d, steps=50, start=start)
    alone = [leading_gain(x[w : w + 1], d[w : w + 1], steps=50, start=start) for w in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(together, torch.linalg.matrix_norm(x.mT @ d / 40, ord=2), rtol=1e-4, atol=0)


def test_the_gradient_of_the_bilinear_form_is_that_of_the_singular_value():
    x = normal(1, 12, 4).requires_grad_()
    d = normal(1, 12, 4, seed=1).requires_grad_()
    start = normal(4, seed=2)
    assert torch.autograd.gradcheck(lambda x, d: leading_gain(x, d, steps=100, start=start), (x, d), fast_mode=True)


def test_a_teacher_has_the_gain_of_itself_and_double_the_branch_has_double_the_gain():
    before, branch = normal(2, 50, 8), normal(2, 50, 8, seed=1)
    teacher, louder = Passage(before, before + branch), Passage(before, before + 2 * branch)
    same = gains(teacher, teacher, positions=20)
    assert torch.equal(same[0], same[1])
    double = gains(louder, teacher, positions=20)
    torch.testing.assert_close(double[0], 2 * double[1])


def test_massive_channels_and_the_size_of_tokens_do_not_count():
    before, branch = normal(1, 60, 8), normal(1, 60, 8, seed=1)
    plain = gains(Passage(before, before + 1.5 * branch), Passage(before, before + branch))
    massive = torch.ones(8, dtype=torch.float64)
    massive[3] = 1000.0
    heavy = gains(Passage(before, before + 1.5 * branch * massive), Passage(before, before + branch * massive))
    torch.testing.assert_close(heavy, plain, rtol=1e-3, atol=0)


def test_the_generator_decides_positions_and_start():
    teacher = Passage(normal(1, 64, 8), normal(1, 64, 8, seed=1))
    few = [gains(teacher, teacher, seed=seed, positions=16)[1].item() for seed in (1, 1, 2)]
    assert few[0] == few[1] != few[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_silent_block_has_no_gain_and_finite_gradients(dtype):
    before = normal(2, 10, 4).to(dtype).requires_grad_()
    silent = Passage(before, before * 1.0)
    student, teacher = gains(silent, Passage(before.detach(), before.detach()))
    assert student.dtype == torch.float32
    assert student.tolist() == teacher.tolist() == [0.0, 0.0]
    student.sum().backward()
    assert torch.isfinite(before.grad).all()
