"""The uniform allocator: one water level of bits per weight for all linears.

The level is the highest whose forms fit the budget together; a linear whose smallest form is dearer than
the level keeps that form, and the others make up for it. What is left over then raises linears by one step
in order while it lasts, so that the budget is met to within one step of one linear.
"""

from collections.abc import Mapping, Sequence

from liptt_cli.errors import BudgetError
from liptt_cli.forms.base import Form
from liptt_cli.planning.price import Ladder
from liptt_cli.planning.sites import SiteShape


def allocate(
    sites: Sequence[SiteShape], ladders: Mapping[tuple[int, int], Ladder], *, budget_bytes: int
) -> dict[str, Form]:
    """Return a form for each site, together at most `budget_bytes`.

    Raises:
        BudgetError: if even the smallest forms cost more.
    """
    smallest = sum(ladders[site.shape].bytes[0] for site in sites)
    if smallest > budget_bytes:
        raise BudgetError(f"{budget_bytes:,} bytes cannot be met; the smallest that can is {smallest:,}")
    chosen = _at_level(sites, ladders, _highest_level(sites, ladders, budget_bytes))
    left = budget_bytes - _total(sites, ladders, chosen)
    for site in sites:
        prices, step = ladders[site.shape].bytes, chosen[site.name] + 1
        if step < len(prices) and prices[step] - prices[step - 1] <= left:
            left -= prices[step] - prices[step - 1]
            chosen[site.name] = step
    return {site.name: ladders[site.shape].forms[chosen[site.name]] for site in sites}


def _highest_level(sites: Sequence[SiteShape], ladders: Mapping[tuple[int, int], Ladder], budget_bytes: int) -> float:
    levels = sorted({bits for ladder in ladders.values() for bits in ladder.bits})
    low, high = 0, len(levels)
    while low + 1 < high:
        middle = (low + high) // 2
        if _total(sites, ladders, _at_level(sites, ladders, levels[middle])) <= budget_bytes:
            low = middle
        else:
            high = middle
    return levels[low]


def _at_level(sites: Sequence[SiteShape], ladders: Mapping[tuple[int, int], Ladder], bits: float) -> dict[str, int]:
    best = {shape: ladder.best(bits) for shape, ladder in ladders.items()}
    return {site.name: best[site.shape] for site in sites}


def _total(sites: Sequence[SiteShape], ladders: Mapping[tuple[int, int], Ladder], chosen: Mapping[str, int]) -> int:
    return sum(ladders[site.shape].bytes[chosen[site.name]] for site in sites)
