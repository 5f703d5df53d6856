"""The laws of codecs, for every codec on the menu; those of a weight itself are in test_weight_codecs."""

import pytest
import torch

from drawn import gram, normal
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import CODECS, codec_of
from liptt_cli.menu import binarize

FLOATS = binarize.FloatCodec(dtype="float32")
RECORDS = [
    binarize.FloatCodec(dtype="float32"),
    binarize.BinaryCodec(kind="binary", iterations=60),
    binarize.BinaryCodec(kind="binary", scale=["row"]),
    binarize.BinaryCodec(kind="binary", scale=["column"]),
    binarize.BinaryCodec(kind="binary", scale=["axes"], iterations=60),
    binarize.BinaryCodec(kind="binary", scale=["group"], group_columns=4),
    binarize.BinaryCodec(kind="binary", rank=2, iterations=400),
    binarize.SparseCodec(kind="sparse", mask=binarize.TopColumns(kind="top_columns", share=0.3), values=FLOATS),
    binarize.SparseCodec(kind="sparse", mask=binarize.TopShare(kind="top_share", share=0.1), values=FLOATS),
    binarize.SparseCodec(kind="sparse", mask=binarize.TopShare(kind="top_share", share=0.5), values=FLOATS),
]
METRICS = [Metric(), Metric(cols=gram(10).diagonal()), Metric(normal(6, seed=3).abs(), gram(10))]
VALUES = normal(6, 10)


@pytest.fixture(params=RECORDS, ids=str)
def codec(request):
    return codec_of(request.param)


def coded(codec, values, metric=None):
    return codec.fit(values, metric=metric or Metric()).round(values).dense(torch.float64)


def test_every_codec_of_the_menu_is_here():
    assert {type(record) for record in RECORDS} == set(CODECS) - set(binarize.WEIGHT_CODECS)


@pytest.mark.parametrize("metric", METRICS)
def test_shape_and_dtype_are_kept(codec, metric):
    found = coded(codec, VALUES, metric)
    assert found.shape == VALUES.shape
    assert found.dtype == VALUES.dtype
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("metric", METRICS)
def test_doubling_the_values_doubles_what_is_decoded(codec, metric):
    torch.testing.assert_close(coded(codec, 2 * VALUES, metric), 2 * coded(codec, VALUES, metric))


@pytest.mark.parametrize("metric", METRICS)
def test_encoding_twice_changes_nothing(codec, metric):
    once = coded(codec, VALUES, metric)
    torch.testing.assert_close(coded(codec, once, metric), once)


def test_an_exact_codec_gives_the_values_back(codec):
    assert torch.equal(coded(codec, VALUES), VALUES) == codec.exact


@pytest.mark.parametrize("metric", METRICS[:2])
def test_the_fit_is_better_than_no_fit_and_than_another_metrics(codec, metric):
    error = float(metric.error(VALUES - coded(codec, VALUES, metric)).sum())
    assert error <= float(metric.error(VALUES).sum())
    assert error <= float(metric.error(VALUES - coded(codec, VALUES)).sum()) * (1 + 1e-9)
