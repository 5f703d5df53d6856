"""The torch meaning of a program, read from its bytes, is that of the values."""

import torch
from hypothesis import given, settings

from drawn import TYPE_CHECKED_DRAWS, forms, value_of
from liptt_cli.kernels.fits import misfit
from liptt_cli.kernels.reference import run_block
from liptt_cli.kernels.terms import lower
from signs import block_of, gaussian, grid


@TYPE_CHECKED_DRAWS
@settings(max_examples=40, deadline=None)
@given(forms().filter(lambda form: misfit(form) is None))
def test_it_is_the_value_s_own_product_but_for_columns_of_numbers(form):
    value, x = value_of(form), gaussian(3, form.shape[1]).double()
    columns = [zones.dense(torch.float64) for zones in lower(value).columns]
    wanted = x @ (value.dense(torch.float64) - sum(columns, torch.zeros(form.shape))).T
    torch.testing.assert_close(run_block(block_of([value]), x), wanted, rtol=1e-5, atol=1e-5)


def test_many_panels_are_done_a_few_at_a_time():
    value, x = grid(64 * 35 + 3, 40, 16), gaussian(2, 40).double()
    torch.testing.assert_close(run_block(block_of([value]), x), x @ value.dense(torch.float64).T)
