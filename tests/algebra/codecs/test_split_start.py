"""Two magnitudes in two planes of signs: four levels are found again, and the threshold is the best of its grid."""

import torch

from drawn import normal, seeded
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.codecs.split_start import split_scales
from liptt_cli.algebra.metric import Metric

CODEC = GridCodec("sign", 2, shift=True, group_columns=32, rule="split")


def test_values_of_four_levels_around_a_mean_come_back():
    sizes = torch.tensor([0.25, 1.5], dtype=torch.float64).repeat(6, 32)
    signs = torch.ones(6, 64, dtype=torch.float64)
    signs[:, 2::4] = signs[:, 3::4] = -1
    values = (sizes * signs)[:, torch.randperm(32, generator=seeded()).repeat(2)] + 0.125
    assert torch.equal(CODEC.fit(values, metric=Metric()).round(values).dense(torch.float64), values)


def test_no_other_quantile_is_better():
    sizes = normal(3, 2, 50).abs()
    scales = split_scales(sizes, torch.ones_like(sizes, dtype=torch.bool))
    small, large = scales[0] - scales[1], scales[0] + scales[1]
    ordered = sizes.sort(dim=2).values
    errors = torch.stack(
        [
            ordered[..., :cut].var(2, correction=0) * cut + ordered[..., cut:].var(2, correction=0) * (50 - cut)
            for cut in range(6, 45)
        ]
    )
    low, high = (ordered - small.unsqueeze(2)).square(), (ordered - large.unsqueeze(2)).square()
    torch.testing.assert_close(torch.minimum(low, high).sum(2).clamp_min(errors.amin(0)), errors.amin(0))


def test_entries_elsewhere_do_not_count_and_one_or_none_is_enough():
    sizes, inside = normal(3, 1, 8).abs(), torch.zeros(3, 1, 8, dtype=torch.bool)
    inside[0, 0, 2], inside[1, 0, :5] = True, True
    found = split_scales(sizes, inside)
    torch.testing.assert_close(found[:, 0, 0], torch.stack([sizes[0, 0, 2], torch.zeros(()).double()]))
    assert not found[:, 2].any()
    alone = split_scales(sizes[1:2, :, :5], torch.ones(1, 1, 5, dtype=torch.bool))
    torch.testing.assert_close(found[:, 1:2], alone)


def test_it_is_better_than_planes_that_are_fitted_one_after_the_other():
    """Heavy tails: the residual's plane has the mean size of all, the split's that of the large ones."""
    values = normal(16, 128).pow(3)
    errors = [
        (values - codec.fit(values, metric=Metric()).round(values).dense(torch.float64)).square().sum()
        for codec in (CODEC, GridCodec("sign", 2, shift=True, group_columns=32))
    ]
    assert errors[0] < 0.9 * errors[1]
