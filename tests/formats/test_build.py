"""The laws of compressed weights, over drawn forms of every kind; in float64, where rounding is no excuse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import TYPE_CHECKED_DRAWS, as_levels, chain_of, forms, normal, seeded, value_of
from liptt_cli.errors import IntegrityError
from liptt_cli.formats.build import build
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.forms.base import Section

pytestmark = TYPE_CHECKED_DRAWS

LAW = settings(max_examples=60, deadline=None)


@LAW
@given(form=forms())
def test_apply_is_the_dense_matrix(form):
    value = value_of(form)
    x = normal(2, 3, form.shape[1])
    expected = x @ value.dense(torch.float64).T
    assert value.dense(torch.float64).shape == form.shape
    torch.testing.assert_close(value.apply(x), expected, rtol=1e-10, atol=1e-10)


@LAW
@given(form=forms(), seed=st.integers(0, 99))
def test_rows_are_those_of_the_dense_matrix(form, seed):
    value = value_of(form)
    index = torch.randint(0, form.shape[0], (2, 3), generator=seeded(seed))
    found = value.rows(index, torch.float64)
    torch.testing.assert_close(found, value.dense(torch.float64)[index], rtol=1e-10, atol=1e-10)
    assert value.rows(index).dtype == torch.float32


@LAW
@given(form=forms())
def test_a_value_knows_its_form_and_is_built_from_it(form):
    value = value_of(form)
    assert value.form == form
    again = build(value.form, value.fields())
    assert torch.equal(again.dense(torch.float64), value.dense(torch.float64))


@LAW
@given(form=forms())
def test_settled_twice_is_settled_once(form):
    once = value_of(form).settled()
    twice = once.settled()
    assert once.form == twice.form == form
    assert all(torch.equal(tensor, twice.fields()[name]) for name, tensor in once.fields().items())


@LAW
@given(form=forms())
def test_fields_have_the_shapes_of_the_sections_on_meta_too(form):
    fields = {s.name: torch.empty(s.shape, dtype=_dtype(s), device="meta") for s in form.sections()}
    value = build(form, fields)
    assert value.form == form
    assert value.dense().shape == form.shape
    assert {name: tuple(t.shape) for name, t in value.fields().items()} == {s.name: s.shape for s in form.sections()}


@LAW
@given(form=forms())
def test_codes_as_levels_are_the_same_computation_as_codes_as_indices(form):
    value = value_of(form)
    fields = {n: as_levels(form, n, t) if n.endswith("codes") else t for n, t in value.fields().items()}
    trained = build(form, fields)
    x = normal(3, form.shape[1], dtype=torch.float32)
    assert torch.equal(trained.apply(x), value.apply(x))
    assert all(torch.equal(t, value.fields()[n]) for n, t in trained.settled().fields().items())


def test_a_scale_beyond_float16_is_refused():
    grid = Grid(torch.zeros(1, 1, 2, dtype=torch.uint8), Envelope(torch.full((1, 1, 1, 1), 1e6), None, 2))
    with pytest.raises(IntegrityError, match="scale.rows: a scale of magnitude 1e\\+06 does not fit float16"):
        grid.settled()


def test_padded_modes_are_cropped():
    value = value_of(chain_of((5, 3), ((2, 3), (2, 2)), (3,)))
    assert value.dense().shape == (5, 3)
    assert value.apply(torch.ones(7, 3)).shape == (7, 5)


def test_a_paired_chain_is_a_sum_of_kronecker_products():
    cores = [normal(2, 3 * 4, seed=1), normal(4 * 5, 2, seed=2)]
    chain = Chain(tuple(Dense(c, "float32") for c in cores), (None, None, None), (10, 6), (2, 5), (3, 2))
    left, right = cores[0].reshape(2, 3, 4), cores[1].reshape(4, 5, 2)
    expected = sum(torch.kron(left[:, :, j], right[j]) for j in range(4))
    torch.testing.assert_close(chain.dense(torch.float64), expected)


def test_a_two_core_split_chain_never_forms_the_matrix(monkeypatch):
    value = value_of(chain_of((6, 4), ((6, 1), (1, 4)), (3,)))
    expected = value.dense()
    monkeypatch.setattr(Chain, "dense", None)
    torch.testing.assert_close(value.apply(torch.eye(4)).T, expected)


def _dtype(section: Section):
    if section.bits:
        return torch.uint8
    return getattr(torch, section.storage)
