"""What a block makes of errors, on linear blocks where it is known, and the spectral norm against the exact one."""

import pytest
import torch

from liptt_cli.metrics.amplification import Pass, block_errors, spectral_norm


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def passed(weights, state):
    hidden = {-1: state}
    for b, weight in enumerate(weights):
        hidden[b] = hidden[b - 1] @ weight.T
    return Pass(hidden, lambda b, h: h @ weights[b].T)


def test_an_error_that_enters_is_amplified_by_the_student_s_blocks():
    state, dense = normal(2, 5, 4), [torch.eye(4), torch.eye(4)]
    student = passed([1.1 * torch.eye(4), 3 * torch.eye(4)], state)
    first, second = block_errors([(student, passed(dense, state))])
    assert first["amplification"] is first["teacher_amplification"] is None and first["error_in"] == 0
    assert first["own_error"] == pytest.approx(0.1, rel=1e-5) == first["error_out"]
    assert second["error_in"] == pytest.approx(0.1, rel=1e-5)
    assert (second["amplification"], second["teacher_amplification"]) == (pytest.approx(3), pytest.approx(1))
    assert second["own_error"] == pytest.approx(2) and second["error_out"] == pytest.approx(2.3)


def test_what_leaves_is_at_most_what_is_passed_on_and_what_is_added():
    state = normal(3, 6, 8)
    dense = [normal(8, 8, seed=s) for s in (1, 2)]
    student = [weight + 0.3 * normal(8, 8, seed=9) for weight in dense]
    pair = (passed(student, state), passed(dense, state))
    row = block_errors([pair])[1]
    before, after = (pair[1].hidden[b].norm().item() for b in (0, 1))
    bound = row["amplification"] * row["error_in"] * before + row["own_error"] * after
    assert 0.5 * bound < row["error_out"] * after <= bound * (1 + 1e-6)


def test_windows_add_up_and_a_model_against_itself_errs_nowhere():
    dense = [normal(4, 4, seed=1)]
    states = [normal(1, 5, 4, seed=s) for s in (2, 3)]
    pairs = [(passed([1.5 * dense[0]], state), passed(dense, state)) for state in states]
    whole = (passed([1.5 * dense[0]], torch.cat(states)), passed(dense, torch.cat(states)))
    parts, together = block_errors(pairs)[0], block_errors([whole])[0]
    assert [parts[key] for key in ("own_error", "error_out")] == pytest.approx([0.5, 0.5], rel=1e-5)
    assert together["error_out"] == pytest.approx(parts["error_out"], rel=1e-5)
    assert block_errors([(pairs[0][1], pairs[0][1])])[0]["error_out"] == 0


@pytest.mark.parametrize("shape", [(300, 300), (3, 200), (200, 1)])
def test_the_spectral_norm_is_that_of_the_exact_one(shape):
    weight = normal(*shape)
    exact = torch.linalg.matrix_norm(weight, ord=2).item()
    assert 0.99 * exact < spectral_norm(weight) <= exact * (1 + 1e-5)
    assert spectral_norm(torch.zeros(shape)) == 0
