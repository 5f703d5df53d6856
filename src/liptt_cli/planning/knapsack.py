"""The multiple-choice knapsack: one option of each item, the least summed cost within a budget of bytes.

    minimise  sum costs x      subject to  sum bytes x <= budget,  one x = 1 in each item,  x binary

The relaxation over the lower hulls of the items is solved by one pass over their edges, steepest first (Sinha and
Zoltners 1979). It prices a byte and bounds the optimum from below; the same pass, going on with the edges that still
fit, bounds it from above. An option whose reduced cost exceeds the difference is in no better solution and is left out
(Pisinger 1995), which is how ladders of hundreds of options are thinned without loss. Branch and bound does the rest
(HiGHS: Huangfu and Hall 2018), to within `GAP` of the optimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from liptt_cli.errors import BudgetError, LipttError

GAP = 1e-4  # relative, of the summed cost: far below what a curve can tell
_COST_UNITS = 1e4  # the sum that costs are scaled to: the solver's absolute gap of 1e-6 must not count beside GAP


@dataclass(frozen=True)
class Item:
    """Options with their bytes, ascending, and costs, descending; neither repeats."""

    bytes: tuple[int, ...]
    costs: tuple[float, ...]

    @cached_property
    def hull(self) -> tuple[int, ...]:
        """Return the options on the lower convex hull of costs over bytes."""
        kept: list[int] = []
        for option in range(len(self.bytes)):
            while len(kept) > 1 and self.slope(kept[-2], kept[-1]) <= self.slope(kept[-1], option):
                kept.pop()
            kept.append(option)
        return tuple(kept)

    def slope(self, low: int, high: int) -> float:
        """Return the cost saved by each byte between two options."""
        return (self.costs[low] - self.costs[high]) / (self.bytes[high] - self.bytes[low])


def undominated(bytes_: Sequence[int], costs: Sequence[float]) -> list[int]:
    """Return the options that no other one beats, by bytes ascending: each costs less than all smaller ones."""
    found: list[int] = []
    for option in sorted(range(len(bytes_)), key=lambda index: (bytes_[index], costs[index])):
        if not found or costs[option] < costs[found[-1]]:
            found.append(option)
    return found


def choose(items: Sequence[Item], *, budget_bytes: int) -> list[int]:
    """Return the number of the option chosen of each item, together at most `budget_bytes`.

    Raises:
        BudgetError: if even the smallest options cost more.
    """
    left = budget_bytes - sum(item.bytes[0] for item in items)
    if left < 0:
        raise BudgetError(f"{budget_bytes:,} bytes cannot be met; the smallest that can is {budget_bytes - left:,}")
    greedy, price = _relaxed(items, left)
    offered = _core(items, greedy, price=price, budget_bytes=budget_bytes)
    if max(map(len, offered)) == 1:
        return greedy
    found = _solved(items, offered, budget_bytes)
    return min(greedy, found, key=lambda chosen: _cost(items, chosen))


def _relaxed(items: Sequence[Item], left: int) -> tuple[list[int], float]:
    """Return a feasible choice on the hulls, and the price of a byte in the relaxation: 0 if all fits."""
    edges = [
        (-item.slope(low, high), number, step)
        for number, item in enumerate(items)
        for step, (low, high) in enumerate(pairwise(item.hull))
    ]
    places, price = [0] * len(items), 0.0
    for slope, number, step in sorted(edges):
        item = items[number]
        size = item.bytes[item.hull[step + 1]] - item.bytes[item.hull[step]]
        if places[number] == step and size <= left:
            places[number], left = step + 1, left - size
        elif not price:
            price = -slope
    return [item.hull[place] for item, place in zip(items, places, strict=True)], price


def _core(items: Sequence[Item], greedy: Sequence[int], *, price: float, budget_bytes: int) -> list[list[int]]:
    """Return the options of each item that a better solution than the greedy one can hold, and that one's."""
    reduced = [[cost + price * size for size, cost in zip(i.bytes, i.costs, strict=True)] for i in items]
    bound = sum(min(each) for each in reduced) - price * budget_bytes
    spare = (_cost(items, greedy) - bound) * (1 + 1e-9)
    return [
        [k for k, value in enumerate(each) if value - min(each) <= spare or k == mine]
        for each, mine in zip(reduced, greedy, strict=True)
    ]


def _solved(items: Sequence[Item], offered: Sequence[Sequence[int]], budget_bytes: int) -> list[int]:
    """Solve among the options offered; a sum that only the solver's rounding allows is forbidden and solved again."""
    limit = budget_bytes
    while True:
        chosen = _optimum(items, offered, limit)
        excess = sum(item.bytes[k] for item, k in zip(items, chosen, strict=True)) - budget_bytes
        if excess <= 0:
            return chosen
        limit -= excess


def _optimum(items: Sequence[Item], offered: Sequence[Sequence[int]], limit: int) -> list[int]:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    bytes_ = [item.bytes[k] for item, kept in zip(items, offered, strict=True) for k in kept]
    costs = [item.costs[k] for item, kept in zip(items, offered, strict=True) for k in kept]
    rows = [row for row, kept in enumerate(offered) for _ in kept]
    once = csr_array(([1.0] * len(rows), (rows, range(len(rows)))), shape=(len(items), len(rows)))
    unit = _COST_UNITS / (sum(item.costs[kept[0]] for item, kept in zip(items, offered, strict=True)) or 1.0)
    found = milp(
        c=[cost * unit for cost in costs],
        integrality=[1] * len(costs),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint([bytes_], -float("inf"), limit), LinearConstraint(once, 1, 1)],
        options={"mip_rel_gap": GAP},
    )
    if found.x is None:
        raise LipttError(f"the solver of the knapsack gave up on {len(items)} linears: {found.message}")
    chosen, end = [], 0
    for kept in offered:
        begin, end = end, end + len(kept)
        values = found.x[begin:end].tolist()
        chosen.append(kept[values.index(max(values))])
    return chosen


def _cost(items: Sequence[Item], chosen: Sequence[int]) -> float:
    return sum(item.costs[k] for item, k in zip(items, chosen, strict=True))
