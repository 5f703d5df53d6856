"""The steps of turns from their options: what a transform stores of a weight, before there is one."""

from collections.abc import Sequence

from liptt_cli.forms.base import Form
from liptt_cli.forms.turned import StepForm, TurnedForm, check_haar, hadamard_block
from liptt_cli.menu.transforms import Haar, Hadamard, Scale, Transform

_Steps = tuple[StepForm, ...]


def turned_form(inner: Form, transforms: Sequence[Transform]) -> Form:
    """Return a form between the turns of some transforms, the form itself if there are none.

    Raises:
        ShapeError: if its channels do not divide as a transform needs.
    """
    left: _Steps = ()
    right: _Steps = ()
    for transform in transforms:
        more = _steps(inner.shape, transform)
        left, right = left + more[0], right + more[1]
    return TurnedForm(inner, left, right) if left or right else inner


def _steps(shape: tuple[int, int], transform: Transform) -> tuple[_Steps, _Steps]:
    if not isinstance(transform, Hadamard | Haar):
        return (), (StepForm("scale" if isinstance(transform, Scale) else "permutation"),)
    rows, columns = shape
    left = _fast(rows, transform) if transform.side != "in" else ()
    return left, _fast(columns, transform) if transform.side != "out" else ()


def _fast(channels: int, transform: Hadamard | Haar) -> _Steps:
    if isinstance(transform, Haar):
        check_haar(channels, block=transform.block, levels=transform.levels)
        return (StepForm("haar", transform.block, transform.levels),)
    step = StepForm("hadamard", hadamard_block(channels, block=transform.block))
    return (StepForm("signs"), step) if transform.signs else (step,)
