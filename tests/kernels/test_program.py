"""Programs: one call for weights that share an input, columns of numbers beside, nothing where none fits."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drawn import TYPE_CHECKED_DRAWS, chain_form, forms, magnitude_form, value_of
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.zones import ZonesForm
from liptt_cli.kernels import native
from liptt_cli.kernels.dispatch import TORCH, VARIABLE, exact
from liptt_cli.kernels.fits import misfit
from liptt_cli.kernels.program import BlockProgram, RowsProgram, prepare
from liptt_cli.kernels.terms import lower
from signs import block_of, entries, gaussian, greatest_sums, grid

TOLERANCE = {True: 3e-3, False: 4e-2}  # by whether the tables are full


def program_of(values):
    """A program also where nothing is compiled: then the operator runs the torch meaning."""
    columns = tuple((number, zones) for number, value in enumerate(values) for zones in lower(value).columns)
    return BlockProgram(tuple(value.form.shape[0] for value in values), columns, block_of(values))


def check(values, x, kernel):
    for value, y in zip(values, program_of(values)(x), strict=True):
        wanted = x.double() @ value.dense(torch.float64).T
        assert y.dtype == x.dtype and y.shape == wanted.shape
        usual = (x.double().square() @ value.dense(torch.float64).square().T).sqrt()  # without luck in the signs
        assert (y.double() - wanted).norm() / usual.norm() <= TOLERANCE[entries(kernel) > 1000]


SHAPE = (200, 300)
FORMS = {
    "chain": chain_form(SHAPE, [70]),
    "chain of rank 1": chain_form(SHAPE, [1]),
    "magnitudes": magnitude_form(SHAPE, [70]),
    "planes, shift": GridForm(SHAPE, planes=2, scale=EnvelopeForm(200, 128), shift=EnvelopeForm(200, 300, True, 2)),
    "envelope": GridForm(SHAPE, scale=EnvelopeForm(200, 300, True, 3)),
    "int8": GridForm(SHAPE, "int8", scale=EnvelopeForm(200, 128)),
    "int4, a scale a row": GridForm(SHAPE, "int4", scale=EnvelopeForm(200, 300)),
    "two paths": SumForm((chain_form(SHAPE, [40]), chain_form(SHAPE, [24]))),
    "columns of numbers": ZonesForm(
        SHAPE, "column", (20,), (GridForm(SHAPE, scale=EnvelopeForm(200, 128)), DenseForm(SHAPE, "float16"))
    ),
    "N of M": ZonesForm(SHAPE, "index", (150,), (GridForm(SHAPE), GridForm(SHAPE, scale=EnvelopeForm(200, 100)))),
}


@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_kind_of_form(kernel: str, form, tokens: int):
    check([value_of(form)], gaussian(tokens, 300), kernel)


def test_a_large_table_is_laid_out_some_rows_at_a_time(kernel: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("liptt_cli.kernels.program._LAYOUT_BYTES", 1)
    value, x = value_of(FORMS["int8"]), gaussian(3, 300)
    program = prepare([value])
    if program is None:
        assert native.ABSENT or kernel == TORCH
        return
    assert isinstance(program, RowsProgram) and [part.out_features for part in program.parts] == [(64,)] * 3 + [(8,)]
    torch.testing.assert_close(program(x)[0], program_of([value])(x)[0], rtol=1e-6, atol=1e-6)


def test_weights_that_share_an_input_are_one_call(kernel: str):
    values = [value_of(FORMS["chain"]), grid(64, 300, 128), value_of(FORMS["columns of numbers"], seed=3)]
    x = gaussian(5, 300)
    check(values, x, kernel)
    for value, y in zip(values, program_of(values)(x), strict=True):
        assert torch.equal(y, program_of([value])(x)[0])


@TYPE_CHECKED_DRAWS
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(forms().filter(lambda form: misfit(form) is None), st.integers(1, 5))
def test_any_form_that_fits(kernel: str, form, tokens: int):
    value, x = value_of(form), gaussian(tokens, form.shape[1])
    wanted = x.double() @ value.dense(torch.float64).T
    found = program_of([value])(x)[0].double()
    size = x.double().abs() @ greatest_sums(value).T
    assert ((found - wanted).abs() <= (5e-3 if entries(kernel) > 1000 else 7e-2) * size + 1e-6).all()


def test_prepare_gives_nothing_where_the_torch_meaning_runs(kernel: str, monkeypatch: pytest.MonkeyPatch):
    fits, not_so = grid(8, 8), value_of(DenseForm((8, 8), "float16"))
    assert (prepare([fits]) is None) == (kernel == TORCH)
    assert prepare([fits, not_so]) is None
    with exact():
        assert prepare([fits]) is None
    monkeypatch.setenv(VARIABLE, TORCH)
    assert prepare([fits]) is None


def test_under_exact_a_program_made_before_runs_the_torch_meaning(kernel: str):
    value, x = grid(8, 40), gaussian(2, 40)
    program = program_of([value])
    with exact():
        torch.testing.assert_close(program(x)[0], value.apply(x), rtol=1e-6, atol=1e-6)
    if kernel != TORCH:
        y = torch.empty(2, 8)
        native.run(native.kernel_number(kernel), program.block, x, y)
        assert torch.equal(program(x)[0], y)
