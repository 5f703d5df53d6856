"""The layout of a program: segments, panels, shared tables and codes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from liptt_cli.kernels.layout import PANEL_ROWS, panel_codes, panel_order, segments_of, write_program
from liptt_cli.kernels.terms import Lowered, Term, lower
from signs import enveloped, grid


@given(st.lists(st.integers(0, 400), min_size=1, max_size=9).filter(any))
def test_segments_cover_each_column_once_and_cross_no_group(widths: list[int]):
    ends = [sum(widths[: k + 1]) for k in range(len(widths))]
    segments = segments_of(ends)
    columns = [column for start, count, _, _ in segments for column in range(start, start + count)]
    assert columns == list(range(ends[-1]))
    groups = [group for _, count, group, _ in segments for _ in range(count)]
    assert groups == [group for group, width in enumerate(widths) for _ in range(width)]
    assert all(0 < count <= 128 for _, count, _, _ in segments)
    places = [first_byte for *_, first_byte in segments]
    lengths = [-(-count // 8) for _, count, _, _ in segments]
    assert places == [sum(lengths[:k]) for k in range(len(lengths))]


def test_a_panel_holds_even_rows_first_and_a_column_to_a_bit():
    codes = torch.zeros(70, 300, dtype=torch.bool)
    codes[33, 9] = codes[66, 299] = True
    panels = panel_codes(codes, segments_of([300]))
    assert panels.sum() == 2 + 2**3
    order = panel_order().tolist()
    assert panels[1 * PANEL_ROWS + order.index(33)] == 2  # segment 0, panel 0, columns 8 to 15
    third = 2 * (128 // 8) * 2 * PANEL_ROWS  # two segments of two panels
    assert panels[third + (6 + 5) * PANEL_ROWS + order.index(2)] == 8


def test_planes_ranks_and_weights_share_what_is_equal():
    one, four = grid(64, 256, 256), enveloped(64, 256, 256, planes=2, rank=2)
    size = len(write_program([lower(one)], in_features=256, out_features=[64]))
    assert len(write_program([lower(one), lower(one)], in_features=256, out_features=[64, 64])) < 2 * size + 200
    codes_bytes = 64 * 256 // 8
    assert len(write_program([lower(four)], in_features=256, out_features=[64])) < size + codes_bytes + 4 * (
        256 + 1024 + 300
    )


def test_all_pieces_are_at_multiples_of_a_cache_line():
    term = Term(torch.ones(3, 5, dtype=torch.bool), (2, 5), torch.ones(3, 2), torch.ones(3), torch.ones(5))
    block = write_program([Lowered((term,))], in_features=5, out_features=[3])
    words = block[: 8 * (12 + 7 + 6 + 4)].view(torch.int64).tolist()
    assert words[1] == len(block)
    assert all(at % 64 == 0 for at in (words[15], words[17], *words[26:29]))
