"""The laws of transforms, for every transform on the menu."""

import pytest
import torch

from drawn import gram, normal, seeded
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import TRANSFORMS, transform_of
from liptt_cli.formats.dense import Dense
from liptt_cli.menu import transforms

ROWS, COLUMNS = 8, 12
RECORDS = [
    transforms.Scale(kind="scale"),
    transforms.Scale(kind="scale", exponent=0.3, weight_exponent=0.7),
    *(transforms.Hadamard(kind="hadamard", side=side) for side in ("in", "out", "both")),
    transforms.Hadamard(kind="hadamard", block=2, signs=False),
    *(transforms.Haar(kind="haar", side=side, block=8) for side in ("in", "out", "both")),
    transforms.Haar(kind="haar", block=4, levels=2),
    transforms.Permutation(kind="permutation", group_columns=5),
    transforms.Permutation(kind="permutation", by="activation"),
]
METRICS = {
    "none": Metric(),
    "diagonal": Metric(cols=gram(COLUMNS).diagonal()),
    "full": Metric(cols=gram(COLUMNS)),
    "both": Metric(normal(ROWS, seed=3).abs(), gram(COLUMNS)),
}
WEIGHT = normal(ROWS, COLUMNS)


@pytest.fixture(params=RECORDS, ids=str)
def transform(request):
    return transform_of(request.param)


def fitted(transform, metric, *, seed=0):
    return transform.fit(WEIGHT, metric=metric, generator=seeded(seed))


def test_every_transform_of_the_menu_is_here():
    assert {type(record) for record in RECORDS} == set(TRANSFORMS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_what_a_turn_does_its_wrap_undoes(transform, metric):
    turn = fitted(transform, metric)
    turned = turn.forward(WEIGHT)
    assert turned.shape == WEIGHT.shape
    torch.testing.assert_close(turn.wrap(Dense(turned, "float32")).dense(torch.float64), WEIGHT)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_an_error_costs_the_same_in_both_coordinates(transform, metric):
    turn = fitted(transform, metric)
    error = normal(ROWS, COLUMNS, seed=5)
    turned = turn.metric(metric, shape=(ROWS, COLUMNS)).error(turn.forward(error)).sum()
    torch.testing.assert_close(turned, metric.error(error).sum())


def test_its_numbers_are_those_that_are_stored(transform):
    turn = fitted(transform, METRICS["full"])
    value = turn.wrap(Dense(turn.forward(WEIGHT).float(), "float32"))
    assert torch.equal(value.settled().dense(), value.dense())


def test_the_same_generator_gives_the_same_turn(transform):
    one, again = (turn.wrap(Dense(WEIGHT, "float32")).fields() for turn in (fitted(transform, Metric()),) * 2)
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())


def test_several_turns_are_one_after_the_other():
    metric, turns = METRICS["both"], [fitted(transform_of(record), METRICS["both"]) for record in RECORDS]
    first, second = turns[0].then(turns[4]), turns[4]
    torch.testing.assert_close(first.forward(WEIGHT), second.forward(turns[0].forward(WEIGHT)))
    inside = second.metric(turns[0].metric(metric, shape=(ROWS, COLUMNS)), shape=(ROWS, COLUMNS))
    torch.testing.assert_close(first.metric(metric, shape=(ROWS, COLUMNS)).cols, inside.cols)
    value = first.wrap(Dense(first.forward(WEIGHT), "float32"))
    torch.testing.assert_close(value.dense(torch.float64), WEIGHT, rtol=1e-6, atol=1e-6)
