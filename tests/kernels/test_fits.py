"""Every form is told apart: what a kernel runs, and a reason for what none does."""

from dataclasses import replace

import pytest

from drawn import chain_form, magnitude_form
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import StepForm, TurnedForm
from liptt_cli.forms.zones import ZonesForm
from liptt_cli.kernels.fits import misfit

SHAPE = (6, 10)
GRID = GridForm(SHAPE, scale=EnvelopeForm(6, 4))
ROW_SHIFT, GROUP_SHIFT = EnvelopeForm(6, 10), EnvelopeForm(6, 4)
DENSE, ZERO = DenseForm(SHAPE, "float16"), ZeroForm(SHAPE)


@pytest.mark.parametrize(
    "form",
    [
        GRID,
        GridForm(SHAPE),
        replace(GRID, planes=2, shift=ROW_SHIFT),
        chain_form(SHAPE, [3]),
        magnitude_form(SHAPE, [3]),
        SumForm((GRID, chain_form(SHAPE, [3]))),
        ZonesForm(SHAPE, "column", (2,), (GRID, DENSE)),
        ZonesForm(SHAPE, "entry", (9,), (ZERO, GRID)),
        ZonesForm(SHAPE, "index", (3,), (GRID, GRID)),
    ],
    ids=lambda form: type(form).__name__,
)
def test_sign_products_fit(form):
    assert misfit(form) is None


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (DENSE, "plain numbers"),
        (ZERO, "zeros"),
        (TurnedForm(GRID, right=(StepForm("haar", 2, 1),)), "turned coordinates"),
        (replace(GRID, shift=GROUP_SHIFT), "differs by group"),
        (chain_form((8, 8), [3], layout="mpo"), "paired modes"),
        (chain_form((8, 8), [3, 2]), "3 cores"),
        (chain_form(SHAPE, [3], dtype="float16"), "not one grid"),
        (
            replace(chain_form(SHAPE, [3]), cores=(GridForm((6, 3), shift=EnvelopeForm(6, 3)), GridForm((3, 10)))),
            "shift",
        ),
        (SumForm((GRID, DENSE)), "plain numbers"),
        (ZonesForm(SHAPE, "column", (2,), (ZERO, DENSE)), "without codes"),
        (ZonesForm(SHAPE, "entry", (9,), (GRID, DENSE)), "single entries"),
        (ZonesForm(SHAPE, "column", (2,), (DENSE, GRID)), "outside of the named"),
        (ZonesForm(SHAPE, "column", (2,), (replace(GRID, shift=ROW_SHIFT), ZERO)), "zone with a shift"),
    ],
    ids=str,
)
def test_the_reason_is_named(form, reason: str):
    assert reason in (misfit(form) or "")
