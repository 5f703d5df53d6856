"""A turned weight runs by fast steps and never as its matrix; formats/test_build.py has the laws."""

import pytest
import torch

from drawn import normal, seeded, sign_form, value_of
from liptt_cli.errors import IntegrityError
from liptt_cli.formats.steps import Haar, Hadamard, Permutation, Scale, Signs
from liptt_cli.formats.turned import Turned

CHANNELS = 8
STEPS = [
    Signs(torch.tensor([0, 1, 1, 0, 1, 0, 0, 1], dtype=torch.uint8)),
    Scale(torch.tensor([0.5, 2.0, -1.0, 4.0, 0.25, 1.0, 8.0, -2.0])),
    Permutation(torch.randperm(CHANNELS, generator=seeded())),
    Hadamard(4),
    Haar(4, 2),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.form.kind)
def test_the_three_directions_of_a_step_are_one_matrix_its_transpose_and_that_one_s_inverse(step):
    eye = torch.eye(CHANNELS, dtype=torch.float64)
    matrix = step.inward(eye).T
    torch.testing.assert_close(step.outward(eye), matrix)
    torch.testing.assert_close(step.undone(eye) @ step.outward(eye), eye)
    torch.testing.assert_close(step.settled().inward(eye), step.inward(eye))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.form.kind)
@pytest.mark.parametrize("side", ["left", "right"])
def test_inputs_and_outputs_are_turned_and_the_matrix_is_never_formed(step, side, monkeypatch):
    value = Turned(value_of(sign_form(CHANNELS, CHANNELS)), **{side: (STEPS[3], step)})
    expected, x = value.dense(torch.float64), normal(3, CHANNELS)
    monkeypatch.setattr(Turned, "dense", None)
    torch.testing.assert_close(value.apply(x), x @ expected.T)


def test_rows_of_turned_inputs_need_no_other_rows(monkeypatch):
    value = Turned(value_of(sign_form(4, CHANNELS)), right=tuple(STEPS))
    expected = value.dense(torch.float64)
    monkeypatch.setattr(Turned, "dense", None)
    torch.testing.assert_close(value.rows(torch.tensor([2, 0]), torch.float64), expected[[2, 0]])


def test_a_scale_beyond_float16_is_refused():
    with pytest.raises(IntegrityError, match="scale of a turn: a scale of magnitude 1e\\+06 does not fit float16"):
        Scale(torch.tensor([1e6])).settled()
