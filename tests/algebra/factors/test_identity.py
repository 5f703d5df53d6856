"""The weight as a chain of one core, with scales where the form's envelope has them."""

import pytest
import torch

from drawn import normal, seeded, sign_form
from liptt_cli.algebra.factors.identity import IdentityFactor
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm

WEIGHT = normal(4, 6)


@pytest.mark.parametrize(("by_row", "by_column"), [(True, True), (True, False), (False, True)])
def test_scales_are_where_the_envelope_is(by_row, by_column):
    form = sign_form(4, 6, by_row=by_row, by_column=by_column)
    chain = IdentityFactor().start(WEIGHT, form=form, generator=seeded())
    assert [scale is not None for scale in chain.scales] == [by_row, by_column]
    assert torch.equal(chain.dense(torch.float64), WEIGHT)


def test_plain_numbers_have_none():
    chain = IdentityFactor().start(WEIGHT, form=DenseForm((4, 6), "float16"), generator=seeded())
    assert chain.scales == (None, None)


def test_a_scale_a_group_is_one_of_the_rows_to_the_chain():
    chain = IdentityFactor().start(WEIGHT, form=GridForm((4, 6), scale=EnvelopeForm(4, 3)), generator=seeded())
    assert [scale is not None for scale in chain.scales] == [True, False]
