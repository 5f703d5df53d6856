"""A sum: each part takes what is left over, and parts for some columns leave the others alone."""

import torch

from drawn import normal
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.codecs.residual import ResidualCodec
from liptt_cli.algebra.codecs.zones import Choice
from liptt_cli.algebra.masks.top_columns import TopColumns
from liptt_cli.algebra.metric import Metric

VALUES = normal(6, 20)
SIGNS = GridCodec(shift=True)
COLUMNS = Choice(TopColumns(0.2))


def rounded(codec, values=VALUES):
    return codec.fit(values, metric=Metric()).round(values)


def test_parts_are_fitted_to_what_is_left_over():
    first = rounded(SIGNS)
    both = rounded(ResidualCodec((SIGNS, SIGNS)))
    assert torch.equal(both.parts[0].codes, first.codes)
    left = VALUES - first.dense(VALUES.dtype)
    assert torch.equal(both.parts[1].codes, rounded(SIGNS, left).codes)
    errors = [float((VALUES - each.dense(VALUES.dtype)).square().sum()) for each in (first, both)]
    assert errors[1] < 0.6 * errors[0]


def test_later_parts_are_for_the_chosen_columns_alone():
    codec = ResidualCodec((SIGNS, SIGNS), COLUMNS)
    found = rounded(codec)
    chosen = COLUMNS.labels(VALUES, Metric())[0].bool()
    assert int(chosen.sum()) == 4
    assert not found.parts[1].dense(VALUES.dtype)[:, ~chosen].any()
    assert bool(found.parts[1].dense(VALUES.dtype)[:, chosen].all())
    alone = rounded(SIGNS)
    assert torch.equal(found.dense(VALUES.dtype)[:, ~chosen], alone.dense(VALUES.dtype)[:, ~chosen])


def test_filled_columns_are_the_mean_of_the_others_nearby():
    values = VALUES.clone()
    values[:, 7] = 100.0
    codec = ResidualCodec((GridCodec(shift=True), GridCodec(planes=2, shift=True)), Choice(TopColumns(0.05)), 3)
    plain, filled = (rounded(ResidualCodec(codec.parts, codec.choice, fill), values) for fill in (None, 3))
    assert float(filled.parts[0].scale.rows.max()) < 0.15 * float(plain.parts[0].scale.rows.max())
    near = (values[:, 6] + values[:, 8]) / 2
    assert torch.equal(filled.parts[0].codes[0, :, 7], (near >= filled.parts[0].shift.rows.flatten()).to(torch.uint8))
    torch.testing.assert_close(filled.dense(values.dtype)[:, 7], values[:, 7], rtol=0.05, atol=0.0)
