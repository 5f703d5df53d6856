"""Pieces: ranges of columns rounded apart are one weight when joined, and what is stored says the same."""

import pytest
import torch

from drawn import normal, seeded
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.pieces import Added, Labelled, Turning, compact, join
from liptt_cli.formats.steps import Haar, Permutation
from liptt_cli.formats.zero import Zero
from liptt_cli.forms.base import blob_bytes
from liptt_cli.packing.blob import pack, unpack

ROWS, COLUMNS, RUN = 6, 20, 8


def grid(columns, *, seed, planes=1, alphabet="sign"):
    codes = torch.randint(0, 2, (planes, ROWS, columns), generator=seeded(seed), dtype=torch.uint8)
    scale = Envelope(normal(planes, 1, ROWS, 1, seed=seed, dtype=torch.float32), None, columns)
    return Grid(
        codes, scale, Envelope(normal(1, 1, ROWS, 1, seed=seed + 1, dtype=torch.float32), None, columns), alphabet
    )


def labels(columns, zones, *, seed):
    return torch.randint(0, zones, (ROWS, columns), generator=seeded(seed), dtype=torch.uint8)


def billm_like(columns, *, seed):
    """Whole columns of two planes; the rest divided by entries."""
    rest = Labelled(labels(columns, 2, seed=seed), (grid(columns, seed=seed), grid(columns, seed=seed + 3)), "entry")
    chosen = labels(columns, 2, seed=seed + 1)[:1].expand(ROWS, -1)
    return Labelled(chosen, (rest, grid(columns, seed=seed + 5, planes=2)), "column")


def n_of_m_like(columns, *, seed):
    """Two of each four zero, the others as above."""
    order = torch.rand(ROWS, columns // 4, 4, generator=seeded(seed)).argsort(-1)
    kept = (order < 2).flatten(1).to(torch.uint8)
    return Labelled(kept, (Zero((ROWS, columns)), billm_like(columns, seed=seed)), "pattern", 4)


def ranges(make):
    pieces = [make(min(RUN, COLUMNS - start), seed=start) for start in range(0, COLUMNS, RUN)]
    return pieces, join(pieces)


def check(make):
    pieces, whole = ranges(make)
    expected = torch.cat([piece.dense(torch.float64) for piece in pieces], dim=1)
    assert torch.equal(whole.dense(torch.float64), expected)
    stored = compact(whole).settled()
    torch.testing.assert_close(stored.dense(torch.float64), expected, rtol=1e-2, atol=1e-2)
    blob = pack(stored)
    assert len(blob) == blob_bytes(stored.form)
    assert torch.equal(unpack(stored.form, blob).dense(), stored.dense())
    return stored


def test_grids_join_group_by_group():
    stored = check(grid)
    assert stored.scale.rows.shape == (1, 1, ROWS, 3)
    assert stored.scale.group_columns == RUN


def test_zones_of_columns_and_entries_join():
    stored = check(billm_like)
    assert stored.layout in ("column", "group")
    assert stored.parts[0].layout == "entry"


def test_labels_of_entries_are_stored_for_their_zone_alone():
    stored = check(billm_like)
    assert stored.parts[0].labels.numel() == stored.form.entries[0] < ROWS * COLUMNS


def test_patterns_hold_zones():
    stored = check(n_of_m_like)
    assert (stored.layout, stored.counts, stored.run) == ("pattern", (2,), 4)
    assert stored.labels.max() < 6
    assert int((stored.dense() == 0).sum()) == ROWS * COLUMNS // 2


def test_what_is_added_joins_part_by_part():
    check(lambda columns, seed: Added((grid(columns, seed=seed), billm_like(columns, seed=seed + 9))))


def test_whole_columns_are_told_by_the_shorter_labels():
    few = torch.zeros(ROWS, 400, dtype=torch.uint8)
    few[:, 7] = 1
    half = torch.arange(400).remainder(2).to(torch.uint8).expand(ROWS, -1)
    told = [compact(Labelled(each, (Zero((ROWS, 400)), grid(400, seed=1)), "column")).layout for each in (few, half)]
    assert told == ["column", "group"]


def test_turned_ranges_are_one_turned_weight_on_runs_of_as_many_columns():
    stored = check(lambda columns, seed: Turning(grid(columns, seed=seed), right=(Haar(RUN),)))
    assert stored.right == (Haar(RUN),)


def test_turned_rows_hold_zones_and_stand_in_sums():
    haar = (Haar(2),)
    check(
        lambda columns, seed: Added(
            (
                Turning(grid(columns, seed=seed), right=(Haar(RUN),)),
                Turning(billm_like(columns, seed=seed + 9), left=haar),
            )
        )
    )


def test_ranges_that_are_turned_by_other_steps_do_not_join():
    turned = Turning(grid(8, seed=0), right=(Haar(8),))
    for steps in ((Haar(4),), (Permutation(torch.arange(8)),)):
        with pytest.raises(ValueError, match="turned by different steps"):
            join([turned, Turning(grid(8, seed=1), right=steps)])


def test_blocks_of_several_widths_store_the_scales_of_their_own_groups_alone():
    zones = torch.tensor([0, 1, 2, 1, 0], dtype=torch.uint8)  # of four columns each, the last one of two
    told = zones.repeat_interleave(4)[:18].expand(ROWS, -1)
    parts = tuple(
        join([grid(min(4, 18 - start), seed=zone + start, alphabet=alphabet) for start in range(0, 18, 4)])
        for zone, alphabet in enumerate(("sign", "uint2", "uint3"))
    )
    piece = Labelled(told, parts, "group", 4)
    stored = compact(piece).settled()
    assert [part.scale.rows.shape[3] for part in stored.parts] == [2, 2, 1]
    torch.testing.assert_close(stored.dense(torch.float64), piece.dense(torch.float64), rtol=1e-2, atol=1e-2)
    assert torch.equal(unpack(stored.form, pack(stored)).dense(), stored.dense())
    assert len(pack(stored)) == blob_bytes(stored.form)
