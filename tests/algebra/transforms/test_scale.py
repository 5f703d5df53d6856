"""Channel scales: the formula, its mean, and channels that nothing is known of."""

import torch

from drawn import normal, seeded
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.transforms.scale import ScaleTransform

WEIGHT = normal(5, 6, dtype=torch.float32)
SQUARES = torch.tensor([1.0, 4.0, 16.0, 1.0, 0.25, 64.0])


def inverse(transform, metric):
    return transform.fit(WEIGHT, metric=metric, generator=seeded()).right[0].scale


def test_scales_are_powers_of_activations_and_weights_with_a_geometric_mean_of_one():
    sizes = WEIGHT.abs().mean(0)
    expected = SQUARES.sqrt().pow(0.7) / sizes.pow(0.3)
    expected = expected / expected.log().mean().exp()
    found = 1 / inverse(ScaleTransform(0.7, 0.3), Metric(cols=SQUARES))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    assert torch.equal(found, 1 / inverse(ScaleTransform(0.7, 0.3), Metric(cols=torch.diag(SQUARES))))


def test_a_channel_without_activations_counts_as_the_mean_one():
    found = inverse(ScaleTransform(0.5), Metric(cols=torch.tensor([4.0, 0.0, 4.0, 1.0, 1.0, 0.0])))
    torch.testing.assert_close(found[[1, 5]], torch.ones(2))


def test_without_exponents_or_activations_nothing_is_scaled():
    assert torch.equal(inverse(ScaleTransform(0.5), Metric()), torch.ones(6))
    assert torch.equal(inverse(ScaleTransform(0.0), Metric(cols=SQUARES)), torch.ones(6))


def test_scales_fit_float16_however_far_channels_are_apart():
    found = inverse(ScaleTransform(1.0), Metric(cols=torch.tensor([1e-30, 1.0, 1.0, 1.0, 1.0, 1e30])))
    assert bool(torch.isfinite(found.half()).all()) and bool((found.half() > 0).all())
