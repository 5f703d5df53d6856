"""The choice among candidates is the best of all of them, by each judge."""

import torch

from drawn import gram, normal
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.codecs.zones import Choice, ZonesCodec
from liptt_cli.algebra.masks.base import Trial
from liptt_cli.algebra.masks.block_bits import BlockBits
from liptt_cli.algebra.masks.magnitude_split import MagnitudeSplit
from liptt_cli.algebra.masks.salient_columns import SalientColumns
from liptt_cli.algebra.metric import Metric

VALUES = normal(6, 24)
SIGNS, TWICE = GridCodec(shift=True), GridCodec(planes=2, shift=True)
TRIALS = (Trial(1, True), Trial(2, True))


def left(codec: ZonesCodec, values=VALUES) -> torch.Tensor:
    return values - codec.fit(values, metric=Metric()).round(values).dense(values.dtype)


def test_the_columns_chosen_leave_the_least_error_of_all_cuts():
    mask = SalientColumns(9)
    chosen = ZonesCodec(Choice(mask, trials=TRIALS), (SIGNS, TWICE))
    proposal = mask.propose(VALUES.abs())
    tried = []
    for number in range(proposal.count):
        labels = proposal.labels(torch.tensor([number]))
        tried.append(float(left(ZonesCodec(chosen.choice, chosen.parts, chosen=labels)).square().sum()))
    assert len(set(tried)) == 9
    # what is stored rounds to the nearest sum of both planes, and the stand-in one after the other: not quite the same
    assert float(left(chosen).square().sum()) <= sorted(tried)[1] * 1.01


def test_a_threshold_for_each_row_is_never_worse_than_one_for_all():
    rows, alone = (
        ZonesCodec(Choice(MagnitudeSplit(9, by_row=True), judge=judge, trials=(Trial(1, True),) * 2), (SIGNS, SIGNS))
        for judge in ("row_error", "error")
    )
    errors = [left(codec).square().sum(1) for codec in (rows, alone)]
    assert bool((errors[0] <= errors[1] * (1 + 1e-3)).all())
    assert float(errors[0].sum()) < float(errors[1].sum())


def test_blocks_are_judged_by_what_their_outputs_diverge():
    """Inputs of some blocks are tiny: taking bits from these costs nothing, and giving them to the others helps."""
    squares = torch.ones(24, dtype=torch.float64)
    squares[:12] = 1e-6
    metric = Metric(cols=squares, pivot=1 / squares.sqrt())
    three = GridCodec("uint3", shift=True, rule="minmax", group_columns=4)
    parts = (
        GridCodec(shift=True, group_columns=4),
        GridCodec("uint2", shift=True, rule="minmax", group_columns=4),
        three,
    )
    choice = Choice(BlockBits(4), "obs", "weight", "output_kl", stand_ins=parts)
    labels = choice.labels(VALUES, metric)
    assert labels[0, :12].eq(0).sum() == labels[0, 12:].eq(2).sum() == 8
    whole = Metric(cols=gram(24), pivot=1 / squares.sqrt())
    assert torch.equal(choice.labels(VALUES, whole), choice.labels(VALUES, whole))


def test_groups_are_whole_for_every_part_and_labels():
    codec = ZonesCodec(Choice(BlockBits(6)), (GridCodec(group_columns=4), GridCodec(group_columns=3)))
    assert codec.group_columns == 12
    assert ZonesCodec(Choice(BlockBits(6)), (GridCodec(group_columns=4), SIGNS)).group_columns is None
    assert (codec.step_columns, ZonesCodec(Choice(BlockBits(6), scope="weight"), codec.parts).step_columns) == (None, 1)
