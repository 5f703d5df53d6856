"""Prices and places of sections, by hand."""

import pytest
from hypothesis import given, settings

from drawn import TYPE_CHECKED_DRAWS, chain_of, forms
from liptt_cli.forms.base import ALIGNMENT_BYTES, bits_per_weight, blob_bytes, offsets
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm

pytestmark = TYPE_CHECKED_DRAWS


@settings(max_examples=60, deadline=None)
@given(form=forms())
def test_sections_start_aligned_and_do_not_overlap(form):
    sections = form.sections()
    starts = offsets(sections)
    ends = [start + section.bytes for start, section in zip(starts, sections, strict=True)]
    assert all(start % ALIGNMENT_BYTES == 0 for start in starts)
    assert all(0 <= start - end < ALIGNMENT_BYTES for start, end in zip(starts[1:], ends, strict=False))
    assert blob_bytes(form) == max(ends, default=0)


def test_rows_of_codes_are_padded_to_bytes():
    assert GridForm((3, 9)).sections()[0].bytes == 6
    assert GridForm((3, 16), planes=2).sections()[0].bytes == 12


def test_a_two_core_chain_costs_what_the_card_says():
    form = chain_of((4096, 4096), ((4096, 1), (1, 4096)), (2024,))
    assert blob_bytes(form) == 2 * 4096 * 2024 // 8 + 2 * (4096 + 2024 + 4096)
    assert bits_per_weight(form) == pytest.approx(0.9980, abs=1e-4)
    assert form.operations().sign_additions == 2024 * 8192
    assert form.operations().multiplications == 4096 + 2024 + 4096


def test_an_unpaired_bond_is_found_and_the_narrowest_taken():
    assert chain_of((8, 8), ((4, 2, 1, 1), (1, 1, 2, 4)), (4, 3, 4)).pair_bond == 2
    assert chain_of((8, 8), ((8, 1, 1), (1, 1, 8)), (3, 2)).pair_bond == 2
    assert chain_of((8, 8), ((4, 2), (2, 4)), (3,)).pair_bond is None


def test_a_chain_that_runs_as_a_matrix_multiplies_like_one():
    assert chain_of((8, 8), ((4, 2), (2, 4)), (3,)).operations().multiplications == 64


def test_groups_are_ragged_at_the_end():
    assert [s.shape for s in EnvelopeForm(4, 3, True, 2).sections("scale", planes=2, columns=8)] == [
        (2, 2, 4, 3),
        (2, 2, 8),
    ]
    assert DenseForm((2, 3), "float32").sections()[0].bytes == 24
