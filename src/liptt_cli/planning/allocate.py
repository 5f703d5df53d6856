"""Where the bits go, by evidence: each linear's form by an exact knapsack over the whole model.

    cost of a form = weight x error(form) / error(middle form),      summed over linears

Errors come from the curves of `curves.py`, one for each candidate, and the weight from the evidence: what the middle
form costs. A linear with a single form costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from liptt_cli.errors import BudgetError, ShapeError
from liptt_cli.forms.base import Form, bits_per_weight, blob_bytes
from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.curves import Curve, reach
from liptt_cli.planning.evidence import Evidence, LinearEvidence, ladders_of, middle, points_of
from liptt_cli.planning.knapsack import Item, choose, undominated
from liptt_cli.planning.price import Ladder
from liptt_cli.planning.sites import SiteShape


@dataclass(frozen=True)
class Offer:
    """One form that the allocator may give: its candidate, its bits a weight and bytes."""

    candidate: int
    form: Form
    bits: float
    bytes: int


@dataclass(frozen=True)
class Offers:
    """What may be given to linears of one shape; `whole` if nothing lies beyond the measured points' reach."""

    each: tuple[Offer, ...]
    whole: bool

    @property
    def ends(self) -> tuple[int, int]:
        """Return the fewest and most bytes."""
        sizes = [offer.bytes for offer in self.each]
        return min(sizes), max(sizes)


def offers_of(config: RunConfig, sites: Sequence[SiteShape]) -> dict[tuple[int, int], Offers]:
    """Return what may be given to each shape.

    Raises:
        ShapeError: if a dimension does not factor as a candidate asks.
        ConfigError: if `at_bits` cannot tell the sizes of a shape apart.
    """
    allocator = config.decompose.allocator
    at_bits = allocator.at_bits if isinstance(allocator, Knapsack) else ()
    found: dict[tuple[int, int], Offers] = {}
    for site in sites:
        if site.shape not in found:
            try:
                found[site.shape] = _offers(at_bits, ladders_of(config, site.shape))
            except ShapeError as error:
                raise ShapeError(f"{site.name}: {error}") from error
    return found


def refuse_out_of_reach(
    offers: Mapping[tuple[int, int], Offers], sites: Sequence[SiteShape], *, budget_bytes: int
) -> None:
    """Refuse a dial that the measured points do not lead to.

    Raises:
        BudgetError: naming the rates between which they do.
    """
    weights = sum(site.weights for site in sites)
    least, most = (8 * sum(offers[site.shape].ends[end] for site in sites) / weights for end in (0, 1))
    asked = 8 * budget_bytes / weights
    if asked < least or (asked > most and not all(each.whole for each in offers.values())):
        raise BudgetError(
            f"decompose.allocator.at_bits: forms are offered from {least:.4f} to {most:.4f} bits per weight, one "
            f"interval beyond the measured rates, and the dial leaves {asked:.4f}; give at_bits a rate near it"
        )


def allocate(
    config: RunConfig, sites: Sequence[SiteShape], evidence: Evidence, *, budget_bytes: int
) -> tuple[dict[str, Form], float]:
    """Return a form for each site, together at most `budget_bytes`, and their summed cost, the least there is.

    Raises:
        BudgetError: if the measured points do not lead to the budget.
    """
    offers = offers_of(config, sites)
    refuse_out_of_reach(offers, sites, budget_bytes=budget_bytes)
    found = {site.name: _found(evidence, site) for site in sites}
    groups = _tied(config, sites, found)
    items, forms = [], []
    for group in groups:
        each = offers[group[0].shape].each
        costs = [sum(own) for own in zip(*(costs_of(found[site.name], each) for site in group), strict=True)]
        sizes = [len(group) * offer.bytes for offer in each]
        kept = undominated(sizes, costs)
        items.append(Item(tuple(sizes[k] for k in kept), tuple(costs[k] for k in kept)))
        forms.append([each[k].form for k in kept])
    chosen = choose(items, budget_bytes=budget_bytes)
    by_name = {site.name: forms[g][chosen[g]] for g, group in enumerate(groups) for site in group}
    cost = sum(item.costs[k] for item, k in zip(items, chosen, strict=True))
    return {site.name: by_name[site.name] for site in sites}, cost


def cost_of(evidence: Evidence, sites: Sequence[SiteShape], forms: Mapping[str, Form]) -> float:
    """Return the summed cost of forms of the recipe's own factor."""
    own = {name: Offer(0, form, bits_per_weight(form), blob_bytes(form)) for name, form in forms.items()}
    return sum(costs_of(_found(evidence, site), [own[site.name]])[0] for site in sites)


def costs_of(linear: LinearEvidence, offers: Sequence[Offer]) -> list[float]:
    """Return what each form costs in one linear."""
    if not linear.points:
        return [0.0] * len(offers)
    measured: dict[int, list[tuple[float, float]]] = {}
    for point in linear.points:
        measured.setdefault(point.candidate, []).append((bits_per_weight(point.form), point.error))
    curves = {candidate: Curve.through(points) for candidate, points in measured.items()}
    unit = linear.weight / curves[0].error(measured[0][middle(len(measured[0]))][0])
    return [unit * curves[offer.candidate].error(offer.bits) for offer in offers]


def _offers(at_bits: Sequence[float], ladders: Sequence[Ladder]) -> Offers:
    measured = points_of(at_bits, ladders)
    found, count = [], 0
    for number, each in enumerate(ladders):
        bits = [bits_per_weight(form) for candidate, form in measured if candidate == number]
        low, high = reach(bits) if bits else (0.0, float("inf"))
        count += len(each.forms)
        rungs = zip(each.forms, each.bits, each.bytes, strict=True)
        found += [Offer(number, form, at, size) for form, at, size in rungs if low <= at <= high]
    return Offers(tuple(found), len(found) == count)


def _found(evidence: Evidence, site: SiteShape) -> LinearEvidence:
    found = evidence.of(site)
    if found is None:
        raise ValueError(f"no evidence of {site.name}; `check` comes first")
    return found


def _tied(config: RunConfig, sites: Sequence[SiteShape], found: Mapping[str, LinearEvidence]) -> list[list[SiteShape]]:
    """Return the sites by what must be alike: input and shape if tied, else each alone."""
    allocator = config.decompose.allocator
    if not isinstance(allocator, Knapsack) or allocator.tie == "none":
        return [[site] for site in sites]
    groups: dict[tuple[int, int, tuple[int, int]], list[SiteShape]] = {}
    for site in sites:
        groups.setdefault((site.block, found[site.name].group, site.shape), []).append(site)
    return list(groups.values())
