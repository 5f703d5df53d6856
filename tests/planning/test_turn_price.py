"""Steps of turns from options: what is planned for a shape, and shapes that do not divide."""

import pytest

from liptt_cli.errors import ShapeError
from liptt_cli.forms.leaves import DenseForm
from liptt_cli.forms.turned import StepForm, TurnedForm
from liptt_cli.menu.transforms import Haar, Hadamard, Permutation, Scale
from liptt_cli.planning.turn_price import turned_form

INNER = DenseForm((12, 40), "float16")


def test_transforms_are_laid_one_into_the_other():
    found = turned_form(
        INNER, [Scale(kind="scale"), Hadamard(kind="hadamard", side="both"), Haar(kind="haar", block=8)]
    )
    signs = StepForm("signs")
    right = (StepForm("scale"), signs, StepForm("hadamard", 8), StepForm("haar", 8, 1))
    assert found == TurnedForm(INNER, (signs, StepForm("hadamard", 4)), right)


def test_without_any_the_form_is_itself():
    assert turned_form(INNER, []) is INNER
    assert turned_form(INNER, [Permutation(kind="permutation")]).right == (StepForm("permutation"),)


@pytest.mark.parametrize("transform", [Hadamard(kind="hadamard", block=16), Haar(kind="haar", block=16, levels=4)])
def test_channels_that_do_not_divide_are_refused(transform):
    with pytest.raises(ShapeError, match="40 channels"):
        turned_form(INNER, [transform])
