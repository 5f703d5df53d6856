"""One weight as bytes: lengths, exact round trips, random bytes included, and refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import TYPE_CHECKED_DRAWS, chain_of, forms, seeded, value_of
from liptt_cli.errors import IntegrityError
from liptt_cli.formats.build import build
from liptt_cli.formats.grid import Grid
from liptt_cli.forms.base import blob_bytes
from liptt_cli.packing.blob import pack, unpack

pytestmark = TYPE_CHECKED_DRAWS

LAW = settings(max_examples=60, deadline=None)


def _has_no_trits(form):
    return all(section.storage != "trit" for section in form.sections())


@LAW
@given(form=forms())
def test_the_length_is_the_price_and_the_round_trip_exact(form):
    value = value_of(form)
    blob = pack(value)
    assert blob.dtype == torch.uint8
    assert len(blob) == blob_bytes(form)
    again = unpack(form, blob)
    assert again.form == form
    assert all(torch.equal(tensor, again.fields()[name]) for name, tensor in value.fields().items())


@LAW
@given(form=forms().filter(_has_no_trits), seed=st.integers(0, 1000))
def test_any_bytes_survive_up_to_padding(form, seed):
    blob = torch.randint(0, 256, (blob_bytes(form),), generator=seeded(seed), dtype=torch.uint8)
    assert torch.equal(pack(unpack(form, blob)), blob & _used_bits(form))


@LAW
@given(form=forms(), seed=st.integers(0, 1000))
def test_any_bytes_are_a_value(form, seed):
    """Ranks of patterns aside, which not every byte is."""
    blob = torch.randint(0, 256, (blob_bytes(form),), generator=seeded(seed), dtype=torch.uint8)
    value = unpack(form, blob)
    assert torch.equal(pack(unpack(form, pack(value))), pack(value))


def test_bits_stand_least_significant_first():
    codes = torch.tensor([[[1, 0, 0, 0, 0, 0, 0, 0, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1, 0, 0]]], dtype=torch.uint8)
    assert pack(Grid(codes)).tolist() == [1, 3, 254, 0]


def test_a_blob_of_another_length_is_refused():
    form = chain_of((6, 4), ((6, 1), (1, 4)), (3,))
    with pytest.raises(IntegrityError, match="but its form asks for"):
        unpack(form, torch.zeros(blob_bytes(form) + 1, dtype=torch.uint8))


def test_an_unsettled_value_is_refused():
    value = value_of(chain_of((6, 4), ((6, 1), (1, 4)), (3,)))
    fields = {n: t.to(torch.float32) if t.is_floating_point() else t for n, t in value.fields().items()}
    with pytest.raises(ValueError, match="settle the value first"):
        pack(build(value.form, fields))


def _used_bits(form):
    """The blob whose bits are 1 wherever the form stores something."""
    value = value_of(form)
    bits = {section.name: section.bits for section in form.sections()}
    ones = {
        name: torch.full_like(tensor, 2 ** bits[name] - 1)
        if bits[name]
        else torch.full(tensor.shape, -1, dtype=_whole(tensor)).view(tensor.dtype)
        for name, tensor in value.fields().items()
    }
    return pack(build(form, ones))


def _whole(tensor):
    return torch.int32 if tensor.element_size() == 4 else torch.int16
