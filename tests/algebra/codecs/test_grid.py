"""Grids: the scales that each rule gives, worked out by hand."""

import pytest
import torch

from drawn import normal
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.codecs.grid_start import Search
from liptt_cli.algebra.codecs.refit import Refit
from liptt_cli.algebra.metric import Metric
from liptt_cli.errors import IntegrityError

ROW = torch.tensor([[-3.0, 1.0, 2.0, 4.0]], dtype=torch.float64)
FEW = torch.tensor([[True, True, False, True]])


def fitted(values=ROW, where=None, **options):
    return GridCodec(**options).fit(values, metric=Metric(), where=where)


def numbers(fit):
    shift = None if fit.shift is None else fit.shift.rows.flatten().tolist()
    return fit.scale.rows.flatten().tolist(), shift


def halves(*found):
    return [float(torch.tensor(each, dtype=torch.float16)) for each in found]


@pytest.mark.parametrize(
    ("options", "scale", "shift"),
    [
        ({"rule": "absmean"}, [2.5], None),
        ({"rule": "absmean", "shift": True}, [2.0], [1.0]),
        ({"rule": "rms"}, halves(7.5**0.5), None),
        ({"rule": "absmean", "group_columns": 2}, [2.0, 3.0], None),
        ({"alphabet": "trit", "rule": "twn"}, [3.0], None),
        ({"rule": "minmax"}, [4.0], None),
        ({"rule": "minmax", "shift": True}, [3.5], [0.5]),
        ({"alphabet": "int2", "rule": "minmax"}, halves(4 / 1.5), None),
        ({"alphabet": "uint3", "rule": "minmax", "shift": True}, [1.0], [-3.0]),
        ({"alphabet": "int3", "rule": "minmax", "shift": True}, [1.0], [1.0]),
        ({"alphabet": "bit", "planes": 2, "rule": "minmax"}, [4.0, -2.0], None),
        ({"alphabet": "bit", "planes": 3, "rule": "minmax", "shift": True}, [4.0, 2.0, 1.0], [-3.0]),
    ],
)
def test_the_scales_of_a_row(options, scale, shift):
    assert numbers(fitted(**options)) == (scale, shift)


def test_entries_elsewhere_do_not_count():
    assert numbers(fitted(where=FEW)) == (halves(8 / 3), None)
    assert numbers(fitted(where=FEW, shift=True)) == (halves(22 / 9), halves(2 / 3))
    assert numbers(fitted(where=~FEW, alphabet="int2", rule="minmax")) == (halves(2 / 1.5), None)


def test_a_second_plane_is_fitted_to_what_the_first_leaves_and_its_mean_goes_into_the_shift():
    scale, shift = numbers(fitted(planes=2, shift=True))
    first = ROW - 1 - 2 * torch.sign(ROW - 1 + 0.1)
    assert scale == halves(2.0, float((first - first.mean()).abs().mean()))
    assert shift == halves(1 + float(first.mean()))


def test_integers_keep_zero_with_a_shift():
    values = torch.tensor([[0.0, 0.3, 2.0, 2.7]], dtype=torch.float64)
    for low in (0.0, -0.4):
        found = fitted(values + low, alphabet="uint3", rule="minmax", shift=True).round(torch.zeros(1, 4).double())
        assert float(found.dense(torch.float64).abs().max()) < 1e-3


def test_one_scale_for_all_rows_and_one_for_each_column():
    values = torch.tensor([[1.0, 4.0], [3.0, 8.0]], dtype=torch.float64)
    assert numbers(fitted(values, by_row=False)) == ([4.0], None)
    by_column = fitted(values, by_row=False, by_column=True)
    assert by_column.scale.cols.flatten().tolist() == [0.5, 1.5]
    torch.testing.assert_close(by_column.round(values).dense(torch.float64), torch.tensor([[2.0, 6.0]] * 2).double())


def test_a_search_beats_the_range_it_searches_in_its_norm():
    values = normal(5, 64)
    errors = {}
    for rule in ("minmax", "search"):
        fit = fitted(values, alphabet="int2", rule=rule, search=Search(norm=2.4, steps=20))
        errors[rule] = (values - fit.round(values).dense(torch.float64)).abs().pow(2.4).sum(1)
    assert bool((errors["search"] <= errors["minmax"]).all())
    assert float(errors["search"].sum()) < 0.8 * float(errors["minmax"].sum())


def test_codes_that_are_left_alone_are_those_from_before():
    values, metric = normal(4, 12), Metric(cols=torch.eye(12).double() + 0.9)
    codec = {"shift": True, "refit": (Refit(3, "full", codes=False),)}
    before, after = (GridCodec(shift=True).fit(values, metric=metric), GridCodec(**codec).fit(values, metric=metric))
    assert torch.equal(after.round(values).codes, before.round(values).codes)
    assert not torch.equal(after.shift.rows, before.shift.rows)


def test_a_group_without_entries_is_zero():
    where = torch.tensor([[True, True, False, False]])
    fit = fitted(where=where, shift=True, planes=2, group_columns=2, refit=(Refit(2),))
    assert float(fit.round(ROW).dense(torch.float64)[:, 2:].abs().max()) == 0


def test_a_scale_that_float16_does_not_hold_is_refused():
    with pytest.raises(IntegrityError, match="does not fit float16"):
        fitted(1e6 * ROW)
