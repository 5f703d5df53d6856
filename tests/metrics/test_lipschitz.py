"""The block ratios of the report."""

import pytest
import torch

from liptt_cli.metrics.lipschitz import block_ratios
from liptt_cli.tensors.retention import Probe


def stream(gains, *, windows=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(windows, 30, 8, generator=generator)
    hidden = {-1: state}
    for b, gain in enumerate(gains):
        state = state + gain * torch.randn(windows, 30, 8, generator=generator)
        hidden[b] = state
    return hidden


def test_each_block_has_a_row_and_a_model_against_itself_has_ratios_of_one():
    rows = block_ratios([stream([1.0, 0.5])], [stream([1.0, 0.5])])
    assert [row["block"] for row in rows] == [0, 1]
    assert all(row["ratio"] == 1.0 and row["student_gain"] == row["teacher_gain"] > 0 for row in rows)


def test_the_ratio_of_the_last_block_follows_its_gain():
    rows = block_ratios([stream([1.0, 1.0])], [stream([1.0, 0.5])], probe=Probe(positions=12))
    assert [row["ratio"] for row in rows] == pytest.approx([1.0, 2.0], rel=1e-5)


def test_batches_do_not_matter():
    students, teachers = stream([1.0, 2.0], windows=4), stream([1.0, 1.0], windows=4)

    def halves(hidden):
        return [{b: state[part] for b, state in hidden.items()} for part in (slice(0, 1), slice(1, 4))]

    whole, parts = block_ratios([students], [teachers]), block_ratios(halves(students), halves(teachers))
    for row, other in zip(whole, parts, strict=True):
        assert row == pytest.approx(other, rel=1e-5)


def test_a_missing_batch_is_noticed():
    with pytest.raises(ValueError, match="longer"):
        block_ratios([stream([1.0])], [stream([1.0]), stream([1.0])])
