"""Numbers that a compressed weight takes over: one for all of it, or one for each row and column."""

import pytest
import torch
from hypothesis import given, settings

from drawn import TYPE_CHECKED_DRAWS, chain_of, forms, normal, value_of
from liptt_cli.algebra.gains import absorbed, multiplied
from liptt_cli.formats.grid import Envelope, Grid

pytestmark = TYPE_CHECKED_DRAWS


@settings(max_examples=60, deadline=None)
@given(form=forms())
def test_a_gain_multiplies_all_of_a_weight_or_is_refused(form):
    value = value_of(form)
    try:
        found = multiplied(value, 2.0)
    except ValueError as error:
        assert "codes without any scale" in str(error)
        return
    assert found.form == form
    torch.testing.assert_close(found.dense(torch.float64), 2 * value.dense(torch.float64))


def test_bare_codes_take_no_gain():
    with pytest.raises(ValueError, match="codes without any scale"):
        multiplied(value_of(chain_of((6, 4), ((6, 1), (1, 4)), (3,), scales=(False, False))), 2.0)


def test_an_envelope_takes_rows_and_columns_over_and_halves_keep_one_size():
    scale = Envelope(normal(1, 2, 6, 1).abs(), normal(1, 2, 8, seed=1).abs(), 8)
    grid = Grid(torch.randint(0, 2, (1, 6, 8), dtype=torch.uint8), scale)
    rows, cols = normal(6, seed=2).exp(), 1e4 * normal(8, seed=3).exp()
    found = absorbed(grid, rows, cols)
    expected = rows.unsqueeze(1) * grid.dense(torch.float64) * cols
    torch.testing.assert_close(found.dense(torch.float64), expected)
    torch.testing.assert_close(found.scale.rows.mean((2, 3)), found.scale.cols.mean(2))


def test_an_envelope_without_columns_takes_rows_over():
    grid = Grid(torch.randint(0, 2, (1, 6, 8), dtype=torch.uint8), Envelope(normal(1, 1, 6, 2).abs(), None, 4))
    rows = normal(6, seed=2).exp()
    found = absorbed(grid, rows, None).dense(torch.float64)
    torch.testing.assert_close(found, rows.unsqueeze(1) * grid.dense(torch.float64))
    assert absorbed(grid, None, None) is grid


def test_only_an_envelope_of_both_takes_them():
    with pytest.raises(ValueError, match="only an envelope over rows and columns"):
        absorbed(Grid(torch.zeros(1, 2, 3, dtype=torch.uint8)), torch.ones(2), None)
