"""Zones: what labels and parts cost, to the byte, and which labels are the cheaper ones."""

import pytest

from liptt_cli.forms.base import bits_per_weight, blob_bytes
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.zones import ZonesForm, share_count, sparse_form

SHAPE = (4096, 4096)
FLOATS = DenseForm(SHAPE, "float16")


def test_columns_cost_their_numbers_and_their_values():
    form = sparse_form(SHAPE, whole_columns=True, count=41, part=FLOATS)
    assert [section.shape for section in form.sections()] == [(1, 41), (1, 41 * 4096)]
    assert blob_bytes(form) == 64 + 2 * 41 * 4096  # 41 numbers of 12 bits are 62 bytes; the next section starts at 64


@pytest.mark.parametrize(("share", "layout"), [(0.005, "index"), (0.05, "index"), (0.09, "entry")])
def test_entries_are_told_by_numbers_while_these_are_fewer_bits_than_a_map(share, layout):
    count = share_count(share, 4096)
    form = sparse_form(SHAPE, whole_columns=False, count=count, part=FLOATS)
    assert form.layout == layout
    labels = 4096 * (-(-count * 12 // 8) if layout == "index" else 512)
    assert blob_bytes(form) == labels + 2 * count * 4096


def test_signs_in_zones_pay_for_their_entries_and_for_scales_of_the_whole():
    """BiLLM's parts: two planes on salient columns, one elsewhere; its scales of blocks of 128 columns on top."""
    scale = EnvelopeForm(4096, 128)
    parts = (GridForm(SHAPE, scale=scale), GridForm(SHAPE, planes=2, scale=scale))
    form = ZonesForm(SHAPE, "column", (410,), parts)
    scales = 16 * 3 * 32 / 4096
    assert bits_per_weight(form) == pytest.approx(1 + 410 / 4096 + scales, abs=1e-3)


def test_operations_are_those_of_the_entries():
    form = ZonesForm((8, 6), "entry", (10,), (ZeroForm((8, 6)), DenseForm((8, 6), "float16")))
    assert vars(form.operations()) == {"sign_additions": 0, "multiplications": 10}
    signs = ZonesForm((8, 6), "column", (2,), (ZeroForm((8, 6)), GridForm((8, 6), planes=2, scale=EnvelopeForm(8, 6))))
    assert vars(signs.operations()) == {"sign_additions": 32, "multiplications": 16}
