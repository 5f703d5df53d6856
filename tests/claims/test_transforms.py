"""What transforms are for: a layer with loud channels is rounded to few bits with less error of its outputs.

AWQ (arXiv:2306.00978): channels with large activations are scaled up before rounding; QuaRot (arXiv:2404.00456):
rotated channels have no outliers. Weights of 64 x 256 with a few loud columns, inputs with others, rounded to nearest
by groups of 128 in the range of each.
"""

from functools import cache

import pytest
import torch

from drawn import gram, normal, plan_of, seeded
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import codec_of, factor_of, solver_of, transform_of
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.menu.decompose import Identity
from liptt_cli.menu.solvers import Direct
from liptt_cli.menu.transforms import Hadamard, Scale
from liptt_cli.menu.weight_codecs import GridCodec
from liptt_cli.planning.turn_price import turned_form
from liptt_cli.planning.weight_price import weight_form

ROWS, COLUMNS = 64, 256
TRANSFORMS = {
    "none": [],
    "scale": [Scale(kind="scale")],
    "smooth": [Scale(kind="scale", weight_exponent=0.5)],
    "hadamard": [Hadamard(kind="hadamard")],
    "both": [Scale(kind="scale"), Hadamard(kind="hadamard")],
}


def layer(*, loud_weights=True, loud_inputs=True):
    """The weight, and the metric of its inputs."""
    weight, inputs = normal(ROWS, COLUMNS, seed=1), torch.ones(COLUMNS, dtype=torch.float64)
    weight[:, ::50] *= 8 if loud_weights else 1
    inputs[7::60] *= 20 if loud_inputs else 1
    return weight.float(), Metric(cols=(gram(COLUMNS) * torch.outer(inputs, inputs)).float())


@cache
def solved(name, bits, **loud):
    codec = GridCodec(kind="grid", alphabet=f"uint{bits}", scale=["group"], group_columns=128, shift=True, fit="minmax")
    weight, metric = layer(**loud)
    form = turned_form(weight_form((ROWS, COLUMNS), codec), TRANSFORMS[name])
    transforms = tuple(map(transform_of, TRANSFORMS[name]))
    plan = plan_of(form, factor_of(Identity()), codec_of(codec), solver_of(Direct()), transforms=transforms)
    return compress(weight, plan=plan, metric=metric, generator=seeded())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("name", ["scale", "smooth", "hadamard"])
def test_each_transform_lowers_the_error_of_the_outputs_where_channels_are_loud(name, bits):
    assert solved(name, bits).error < 0.75 * solved("none", bits).error


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_both_together_are_better_than_either(bits):
    assert solved("both", bits).error < min(solved("scale", bits).error, solved("hadamard", bits).error)


@pytest.mark.parametrize("bits", [2, 4])
def test_loud_activations_are_a_matter_of_scales_and_loud_weights_of_rotations(bits):
    """A rotation keeps the inputs' energy, so an even error of the weights costs what it did."""
    inputs, weights = {"loud_weights": False}, {"loud_inputs": False}
    assert solved("hadamard", bits, **inputs).error > 0.8 * solved("none", bits, **inputs).error
    assert solved("scale", bits, **inputs).error < 0.65 * solved("none", bits, **inputs).error
    assert solved("hadamard", bits, **weights).error < 0.7 * solved("none", bits, **weights).error


def test_a_transform_costs_next_to_nothing():
    plain = bits_per_weight(solved("none", 3).value.form)
    assert bits_per_weight(solved("both", 3).value.form) - plain == pytest.approx(17 / ROWS, abs=1e-6)
