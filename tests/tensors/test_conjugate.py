"""Conjugate gradients: the solution in as many steps as there are eigenvalues, and never a step back."""

import pytest
import torch

from drawn import gram, normal
from liptt_cli.tensors.conjugate import conjugate_gradients

MATRIX, RIGHT, START = gram(8), normal(8, 3), normal(8, 3, seed=1)
WANTED = torch.linalg.solve(MATRIX, RIGHT)


def found(steps, *, precondition=lambda x: x, start=START):
    return conjugate_gradients(lambda x: MATRIX @ x, RIGHT, start=start, precondition=precondition, steps=steps)


def distance(x):
    difference = x - WANTED
    return float((difference * (MATRIX @ difference)).sum())


def test_all_steps_give_the_solution_and_each_comes_nearer():
    distances = [distance(found(steps)) for steps in range(9)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] == distance(START)
    torch.testing.assert_close(found(24), WANTED)


@pytest.mark.parametrize("steps", [1, 4])
def test_with_the_inverse_in_front_one_step_is_enough(steps):
    torch.testing.assert_close(found(steps, precondition=lambda x: torch.linalg.solve(MATRIX, x)), WANTED)


def test_from_the_solution_nothing_moves_and_nothing_is_divided_by_zero():
    still = conjugate_gradients(lambda x: x, START, start=START, precondition=lambda x: x, steps=3)
    assert torch.equal(still, START)
