"""Forms as JSON: a round trip through text for every kind, and a clear refusal of an unknown one."""

import json

import pytest
from hypothesis import given, settings

from drawn import TYPE_CHECKED_DRAWS, forms
from liptt_cli.errors import FormatVersionError
from liptt_cli.forms.read import form_from_json

pytestmark = TYPE_CHECKED_DRAWS


@settings(max_examples=60, deadline=None)
@given(form=forms())
def test_round_trip(form):
    again = form_from_json(json.loads(json.dumps(form.to_json())))
    assert again == form
    assert hash(again) == hash(form)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(FormatVersionError, match='"woven" is not known .*dense, grid, chain.*upgrade'):
        form_from_json({"node": "woven"})


@pytest.mark.parametrize(
    "data",
    [
        {"node": "sum", "parts": [{"node": "woven"}]},
        {"node": "turned", "inner": {"node": "zero", "shape": [2, 3]}, "left": [{"kind": "spin"}], "right": []},
        {"node": "zones", "shape": [2, 3], "layout": "woven", "counts": [1], "parts": []},
        {
            "node": "zones",
            "shape": [2, 3],
            "layout": "column",
            "counts": [1],
            "parts": [{"node": "sum", "parts": [{"node": "zero", "shape": [2, 3]}]}],
        },
    ],
)
def test_a_child_that_is_not_known_is_refused_as_well(data):
    with pytest.raises(FormatVersionError, match="upgrade"):
        form_from_json(data)
