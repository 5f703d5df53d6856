"""The lowering: terms, pairs and columns add up to the matrix of the value."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from drawn import TYPE_CHECKED_DRAWS, forms, value_of
from liptt_cli.forms.zones import ZonesForm
from liptt_cli.kernels.fits import misfit
from liptt_cli.kernels.terms import lower
from signs import enveloped, grid, matrix_of


@TYPE_CHECKED_DRAWS
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(forms().filter(lambda form: misfit(form) is None))
def test_the_terms_add_up_to_the_matrix(form):
    value = value_of(form)
    lowered, total = lower(value), torch.zeros(form.shape, dtype=torch.float64)
    total += sum(matrix_of(term, form.shape[1]) for term in lowered.direct)
    for first, second in lowered.pairs:
        hidden = sum(matrix_of(term, form.shape[1]) for term in first)
        total += sum(matrix_of(term, first[0].codes.shape[0]) for term in second) @ hidden
    total += sum(zones.dense(torch.float64) for zones in lowered.columns)
    torch.testing.assert_close(total, value.dense(torch.float64), rtol=1e-5, atol=1e-5)


def test_planes_and_ranks_are_a_term_each_on_the_same_codes():
    direct = lower(enveloped(4, 9, 9, planes=2, rank=3)).direct
    assert len(direct) == 6
    assert direct[0].codes is direct[2].codes and direct[0].codes is not direct[3].codes


@pytest.mark.parametrize(("layout", "terms"), [("column", 2), ("entry", 4), ("index", 4)])
def test_zones_of_codes_are_gathered_columns_or_halves_of_two_sign_matrices(layout: str, terms: int):
    part = grid(6, 10, 4).form
    lowered = lower(value_of(ZonesForm((6, 10), layout, (3,), (part, part))))
    assert len(lowered.direct) == terms
    assert all((term.gather is not None) == (layout == "column") for term in lowered.direct)
