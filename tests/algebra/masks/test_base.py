"""Every mask: each entry in one zone, shares met to one unit, its errors those of trying each candidate."""

import pytest
import torch

from drawn import normal, seeded
from liptt_cli.algebra.masks.base import Trial, trial_errors, tried
from liptt_cli.algebra.masks.block_bits import BlockBits
from liptt_cli.algebra.masks.magnitude_split import MagnitudeSplit
from liptt_cli.algebra.masks.n_of_m import NOfM
from liptt_cli.algebra.masks.salient_columns import SalientColumns
from liptt_cli.algebra.masks.top_columns import TopColumns
from liptt_cli.algebra.masks.top_share import TopShare

MASKS = [
    TopShare(0.1),
    TopShare(0.3, by_row=True),
    TopColumns(0.2),
    SalientColumns(7, norm=2),
    MagnitudeSplit(9),
    MagnitudeSplit(7, by_row=True),
    MagnitudeSplit(9, ratio=2.0),
    MagnitudeSplit(9, of="maximum", ratio=1.5, by_row=True),
    NOfM(2, 4),
    NOfM(5, 8),
    BlockBits(3),
]
VALUES = normal(5, 20)
SOME = torch.rand(5, 20, generator=seeded(1)) < 0.7
TRIALS = (Trial(1, True), Trial(2, True), Trial(1))


@pytest.fixture(params=MASKS, ids=str)
def mask(request):
    return request.param


@pytest.mark.parametrize("where", [None, SOME])
@pytest.mark.parametrize("trials", [TRIALS, (Trial(1), Trial(1, True), Trial(0)), (Trial(0), Trial(1), Trial(1, True))])
def test_the_errors_are_those_of_each_candidate_tried(mask, where, trials):
    proposal = mask.propose(VALUES.abs(), where=where)
    trials = trials[: mask.zones]
    torch.testing.assert_close(
        proposal.errors(VALUES, trials), tried(proposal, VALUES, trials, where=where), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("where", [None, SOME])
def test_every_entry_is_in_one_zone(mask, where):
    proposal = mask.propose(VALUES.abs(), where=where)
    for number in range(proposal.count):
        labels = proposal.labels(torch.tensor([number]))
        assert labels.shape == VALUES.shape
        assert labels.dtype == torch.uint8
        assert int(labels.max()) < mask.zones


def test_entries_elsewhere_do_not_matter(mask):
    other = torch.where(SOME, VALUES, 100 * normal(5, 20, seed=3))
    choice = torch.tensor([0])
    first, second = (mask.propose(each.abs(), where=SOME).labels(choice) for each in (VALUES, other))
    assert torch.equal(first[SOME], second[SOME])


def test_scores_of_another_unit_give_the_same_zones(mask):
    for number in range(mask.propose(VALUES.abs()).count):
        labels = [mask.propose(unit * VALUES.abs()).labels(torch.tensor([number])) for unit in (1.0, 2.0)]
        assert torch.equal(*labels)


@pytest.mark.parametrize("planes", [0, 1, 2, 3])
@pytest.mark.parametrize("shift", [False, True])
def test_the_error_of_a_trial_is_that_of_signs_fitted_to_what_is_left(planes, shift):
    for row, inside, error in zip(
        VALUES, SOME, trial_errors(VALUES.T, Trial(planes, shift), where=SOME.T), strict=True
    ):
        left = row[inside]
        for _ in range(planes):
            left = left - left.mean() if shift else left
            left = left - left.abs().mean() * torch.where(left >= 0, 1.0, -1.0)
        torch.testing.assert_close(error, left.square().sum())


def test_shares_are_met():
    kept = {str(mask): int(mask.propose(VALUES.abs()).labels(torch.tensor([0])).sum()) for mask in MASKS[:3]}
    assert list(kept.values()) == [10, 30, 20]


def test_the_largest_scores_are_taken():
    labels = TopShare(0.1).propose(VALUES.abs()).labels(torch.tensor([0])).bool()
    assert VALUES[labels].abs().min() > VALUES[~labels].abs().max()


def test_salient_columns_are_added_one_by_one():
    proposal = SalientColumns(7).propose(VALUES.abs())
    order = VALUES.abs().sum(0).argsort(descending=True)
    for number in range(7):
        labels = proposal.labels(torch.tensor([number]))
        assert labels[0].nonzero().flatten().tolist() == sorted(order[: number + 1].tolist())


def test_one_column_is_not_searched():
    proposal = SalientColumns(7).propose(VALUES[:, :1].abs())
    assert proposal.count == 1
    assert not proposal.labels(torch.tensor([0])).any()


def test_a_split_of_each_row_has_its_own_thresholds():
    proposal = MagnitudeSplit(9, by_row=True).propose(VALUES.abs())
    choice = torch.tensor([0, 2, 4, 6, 8])
    counts = proposal.labels(choice).sum(1)
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)
    assert len(set(counts.tolist())) == 5


def test_n_of_m_keeps_n_of_every_run_and_its_share_of_a_short_one():
    labels = NOfM(5, 8).propose(VALUES.abs()).labels(torch.tensor([0]))
    assert labels[:, :16].unflatten(1, (2, 8)).sum(2).unique().tolist() == [5]
    assert labels[:, 16:].sum(1).unique().tolist() == [3]
    assert NOfM(5, 8).told(20) == "entry"
    assert NOfM(2, 4).told(20) == "pattern"


def test_as_many_blocks_are_raised_as_lowered():
    proposal = BlockBits(3).propose(VALUES.abs())
    assert proposal.count == 3
    for number in range(3):
        labels = proposal.labels(torch.tensor([number]))
        assert int((labels == 0).sum()) == int((labels == 2).sum()) == 15 * number
        assert bool((labels[:, 18:] == 1).all())
