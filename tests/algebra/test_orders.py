"""Orders of columns: alike ones together, the heaviest first, and always each column once."""

import torch

from drawn import gram, normal
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.orders import ORDERS, activation, similarity


def test_every_order_has_each_column_once():
    weight = normal(5, 23)
    for order in ORDERS.values():
        found = order(weight, Metric(cols=gram(23)), 4)
        assert torch.equal(found.sort().values, torch.arange(23))


def test_interleaved_kinds_are_taken_apart():
    kinds = normal(30, 2)
    weight = kinds[:, torch.arange(16) % 2] * torch.tensor([3.0, 1.0], dtype=torch.float64).repeat(8)
    found = similarity(weight + 0.01 * normal(30, 16, seed=1), Metric(), 8)
    assert torch.equal(found, torch.cat([torch.arange(0, 16, 2), torch.arange(1, 16, 2)]))


def test_the_heaviest_inputs_come_first_and_without_any_nothing_moves():
    weight = normal(3, 4)
    assert activation(weight, Metric(cols=torch.tensor([1.0, 4.0, 2.0, 4.0])), 2).tolist() == [1, 3, 2, 0]
    assert activation(weight, Metric(), 2).tolist() == [0, 1, 2, 3]
    assert similarity(torch.zeros(3, 5), Metric(), 2).tolist() == [0, 1, 2, 3, 4]
