"""Scales under fixed codes: refit never raises the error, repair keeps the energy, balance keeps the matrix."""

import pytest
import torch

from drawn import chain_form, chain_of, gram, llm_like, normal, value_of
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.scales import balanced, multiplied, refit, repaired, with_scales
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense

FORMS = [
    chain_form((12, 16), (5,)),
    chain_form((12, 16), (5,), layout="mpo"),
    chain_form((12, 16), (3, 5, 4)),
    chain_form((12, 16), (5, 4), bond_scales=False),
    chain_of((11, 15), ((4, 3), (4, 4)), (5,)),
    chain_of((12, 16), ((12,), (16,)), ()),
]
METRICS = [Metric(), Metric(cols=gram(16).diagonal()), Metric(normal(12).abs(), gram(16)), Metric(gram(12), gram(16))]


def in_double(form, seed=0):
    value = value_of(form, seed=seed)
    return with_scales(value, [None if s is None else s.to(torch.float64).abs() for s in value.scales])


def error(value, weight, metric):
    return float(metric.error(weight - value.dense(torch.float64)).sum())


def cropped(metric, shape):
    rows, cols = ((m if m is None else m[(slice(n),) * m.ndim]) for m, n in zip(_sides(metric), shape, strict=True))
    return Metric(rows, cols)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("metric", METRICS)
def test_refit_lowers_the_error_whatever_the_metric(form, metric):
    value, weight, metric = in_double(form), normal(*form.shape, seed=2), cropped(metric, form.shape)
    better = refit(value, weight, metric)
    assert error(better, weight, metric) < error(value, weight, metric)
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(better.cores, value.cores, strict=True))
    assert error(refit(better, weight, metric), weight, metric) <= error(better, weight, metric)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_refit_finds_a_lost_scale_again(k):
    value = in_double(FORMS[0])
    scales = [torch.ones_like(s) if j == k else s for j, s in enumerate(value.scales)]
    whole, metric = value.dense(torch.float64), METRICS[2]
    lost = with_scales(value, scales)
    assert error(refit(lost, whole, metric), whole, metric) < 0.02 * error(lost, whole, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_repair_keeps_the_energy_of_the_outputs(metric):
    weight = llm_like(12, 16).to(torch.float64)
    value = repaired(in_double(FORMS[0]), weight, metric)
    torch.testing.assert_close(metric.error(value.dense(torch.float64)).sum(), metric.error(weight).sum())


@pytest.mark.parametrize("form", FORMS)
def test_balance_keeps_the_matrix_and_evens_the_means(form):
    value = in_double(form)
    uneven = with_scales(value, [None if s is None else s * 10.0 ** (6 - 4 * k) for k, s in enumerate(value.scales)])
    found = balanced(uneven)
    torch.testing.assert_close(found.dense(torch.float64), uneven.dense(torch.float64))
    means = torch.stack([s.abs().mean() for s in found.scales if s is not None])
    torch.testing.assert_close(means, means[0].expand_as(means))


def test_a_gain_goes_to_a_scale_or_into_a_float_core():
    value = in_double(FORMS[0])
    torch.testing.assert_close(multiplied(value, 3.0).dense(torch.float64), 3 * value.dense(torch.float64))
    floats = Chain((Dense(normal(2, 3), "float32"),), (None, None), (2, 3), (2,), (3,))
    torch.testing.assert_close(multiplied(floats, 3.0).dense(torch.float64), 3 * floats.dense(torch.float64))
    with pytest.raises(ValueError, match="without any scale"):
        multiplied(with_scales(value, [None, None, None]), 3.0)


def _sides(metric):
    return metric.rows, metric.cols
