"""The knapsack: as good as brute force, within the budget, to within one step, and never worse for more."""

import math
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import TYPE_CHECKED_DRAWS
from liptt_cli.errors import BudgetError
from liptt_cli.planning.knapsack import GAP, Item, choose, undominated

pytestmark = TYPE_CHECKED_DRAWS


@st.composite
def items(draw, most: int = 4):
    """Items of up to six options, of any sizes and costs."""
    found = []
    for _ in range(draw(st.integers(1, most))):
        sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=6, unique=True))
        costs = draw(st.lists(st.integers(0, 999), min_size=len(sizes), max_size=len(sizes), unique=True))
        found.append(Item(tuple(sorted(sizes)), tuple(sorted((cost / 7 for cost in costs), reverse=True))))
    return found


def spent(found, chosen) -> int:
    return sum(item.bytes[k] for item, k in zip(found, chosen, strict=True))


def cost(found, chosen) -> float:
    return sum(item.costs[k] for item, k in zip(found, chosen, strict=True))


def ends(found) -> tuple[int, int]:
    return sum(item.bytes[0] for item in found), sum(item.bytes[-1] for item in found)


@settings(max_examples=60, deadline=None)
@given(items(), st.data())
def test_it_is_as_good_as_brute_force_and_within_the_budget(found: list[Item], data):
    budget = data.draw(st.integers(ends(found)[0], ends(found)[1] + 5))
    every = product(*(range(len(item.bytes)) for item in found))
    best = min(cost(found, chosen) for chosen in every if spent(found, chosen) <= budget)
    chosen = choose(found, budget_bytes=budget)
    assert spent(found, chosen) <= budget
    assert best - 1e-9 <= cost(found, chosen) <= best * (1 + GAP) + 1e-9


@settings(max_examples=25, deadline=None)
@given(items(most=8), st.data())
def test_no_single_step_is_left_and_more_is_never_worse(found: list[Item], data):
    budget = data.draw(st.integers(*ends(found)))
    chosen = choose(found, budget_bytes=budget)
    left = budget - spent(found, chosen)
    for item, k in zip(found, chosen, strict=True):
        gains = [item.costs[k] - item.costs[j] for j in range(len(item.bytes)) if item.bytes[j] - item.bytes[k] <= left]
        assert max(gains) <= GAP * cost(found, chosen) + 1e-9
    more = choose(found, budget_bytes=budget + data.draw(st.integers(0, 30)))
    assert cost(found, more) <= cost(found, chosen) * (1 + GAP) + 1e-9


def test_ladders_of_hundreds_of_steps_are_chosen_from_without_thinning_within_a_bound():
    """64 linears of 300 forms each; the relaxation on the hulls bounds the optimum from below."""
    draw = random.Random(3)
    found = []
    for _ in range(64):
        steepness, size, scale = draw.uniform(1, 4), draw.choice([1024, 1536, 2816]), draw.uniform(0.1, 3)
        costs = tuple(scale * math.exp(-steepness * k / 100) for k in range(300))
        found.append(Item(tuple(9_000 + size * k for k in range(300)), costs))
    budget = sum(item.bytes[90] for item in found)
    chosen = choose(found, budget_bytes=budget)
    assert budget - 2816 < spent(found, chosen) <= budget
    price = 1e-6
    for _ in range(60):  # the dual bound, by bisection on the price of a byte
        slack = sum(item.bytes[_cheapest(item, price)] for item in found) - budget
        price *= 1.5 if slack > 0 else 0.8
    bound = max(
        sum(item.costs[k] + p * item.bytes[k] for item in found for k in [_cheapest(item, p)]) - p * budget
        for p in (price * 0.8, price * 0.9, price, price * 1.1, price * 1.2)
    )
    assert bound <= cost(found, chosen) <= bound * 1.002
    assert cost(found, chosen) < 0.95 * cost(found, [90] * len(found))


def _cheapest(item: Item, price: float) -> int:
    return min(range(len(item.bytes)), key=lambda k: item.costs[k] + price * item.bytes[k])


def test_a_budget_below_the_smallest_is_refused_with_it():
    with pytest.raises(BudgetError, match="29 bytes cannot be met; the smallest that can is 30"):
        choose([Item((10, 20), (2.0, 1.0)), Item((20,), (1.0,))], budget_bytes=29)


def test_options_that_others_beat_are_left_out():
    assert undominated([30, 10, 20, 20, 40], [1.0, 5.0, 6.0, 3.0, 1.0]) == [1, 3, 0]
