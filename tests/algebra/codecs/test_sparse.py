"""Sparse: which places are kept, with which values, and told how."""

import pytest
import torch

from drawn import gram, normal
from liptt_cli.algebra.codecs.sparse import SparseCodec
from liptt_cli.algebra.metric import Metric

VALUES = normal(6, 12)
FULL = Metric(cols=gram(12))


def kept(codec, metric=None, values=VALUES):
    return codec.fit(values, metric=metric or Metric()).round(values)


def test_entries_are_the_largest_of_each_row():
    found = kept(SparseCodec(0.25, whole_columns=False))
    there = found.dense(torch.float64) != 0
    assert there.sum(1).tolist() == [3] * 6
    floor = VALUES.abs().topk(3, dim=1).values[:, -1:]
    assert torch.equal(there, VALUES.abs() >= floor)
    assert torch.equal(found.dense(torch.float64)[there], VALUES[there])


def test_columns_are_those_that_cost_most_by_the_metric():
    heavy = torch.ones(12, dtype=torch.float64)
    heavy[5] = 1e3
    found = kept(SparseCodec(0.1, whole_columns=True), Metric(cols=heavy))
    assert (found.layout, found.labels.tolist()) == ("column", [[5]])
    blind = kept(SparseCodec(0.1, whole_columns=True, score="magnitude"), Metric(cols=heavy))
    assert blind.labels.tolist() == [[int(VALUES.square().sum(0).argmax())]]


@pytest.mark.parametrize("whole_columns", [True, False])
def test_under_a_whole_metric_the_values_make_up_for_the_others(whole_columns):
    """No value at the places kept can be moved for the better."""
    found = kept(SparseCodec(0.25, whole_columns=whole_columns, dtype="float32"), FULL).dense(torch.float64)
    slope = (found - VALUES) @ FULL.cols
    assert slope[found != 0].abs().max() < 1e-10
    error = float(FULL.error(VALUES - found).sum())
    there = (found != 0).to(torch.float64)
    assert error < 0.95 * float(FULL.error(VALUES - VALUES * there).sum())


def test_entries_are_told_by_the_cheaper_labels():
    wide = normal(4, 300)
    assert kept(SparseCodec(0.01, whole_columns=False), values=wide).layout == "index"
    found = kept(SparseCodec(0.3, whole_columns=False), values=wide)
    assert (found.layout, found.counts) == ("entry", (4 * 90,))
    numbers = kept(SparseCodec(0.01, whole_columns=False), values=wide).labels
    assert numbers.dtype == torch.int32
    assert torch.equal(numbers, numbers.sort(dim=1).values)


def test_one_place_at_least_is_kept_and_never_all():
    assert kept(SparseCodec(0.001, whole_columns=True)).counts == (1,)
    assert kept(SparseCodec(0.99, whole_columns=True)).counts == (11,)
