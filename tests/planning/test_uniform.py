"""Laws of the uniform allocator: within the budget, to within one step, and never less for more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import TYPE_CHECKED_DRAWS
from liptt_cli.errors import BudgetError
from liptt_cli.forms.base import blob_bytes
from liptt_cli.forms.leaves import DenseForm, GridForm
from liptt_cli.planning.price import Ladder
from liptt_cli.planning.sites import SiteShape
from liptt_cli.planning.uniform import allocate

pytestmark = TYPE_CHECKED_DRAWS


@st.composite
def models(draw):
    """Sites of up to three shapes, each shape with a ladder of up to eight forms of any prices."""
    shapes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3, unique=True))
    ladders = {}
    for shape in shapes:
        prices = draw(st.lists(st.integers(1, 60), min_size=1, max_size=8, unique=True))
        ladders[shape] = Ladder(shape, tuple(_Priced(shape, price) for price in sorted(prices)))
    kinds = draw(st.lists(st.sampled_from(shapes), min_size=1, max_size=8))
    return [SiteShape(f"linear.{k}", 0, shape) for k, shape in enumerate(kinds)], ladders


class _Priced(DenseForm):
    """A form of the shape that costs just so many bytes: a matrix of bytes-wide halves would not do."""

    def __init__(self, shape: tuple[int, int], price: int) -> None:
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "price", price)

    def sections(self):
        return (GridForm((self.price, 8)).sections()[0],)


def spent(forms) -> int:
    return sum(blob_bytes(form) for form in forms.values())


def bounds(sites, ladders) -> tuple[int, int]:
    return (sum(ladders[s.shape].bytes[0] for s in sites), sum(ladders[s.shape].bytes[-1] for s in sites))


@settings(max_examples=80, deadline=None)
@given(models(), st.data())
def test_a_budget_is_kept_to_within_one_step_and_more_is_never_less(model, data):
    sites, ladders = model
    least, most = bounds(sites, ladders)
    budget = data.draw(st.integers(least, most + 5))
    forms = allocate(sites, ladders, budget_bytes=budget)
    assert list(forms) == [site.name for site in sites]
    assert spent(forms) <= budget
    steps = [
        prices[prices.index(blob_bytes(forms[site.name])) + 1] - blob_bytes(forms[site.name])
        for site in sites
        if blob_bytes(forms[site.name]) < (prices := ladders[site.shape].bytes)[-1]
    ]
    assert not steps or budget - spent(forms) < max(steps)
    more = allocate(sites, ladders, budget_bytes=budget + data.draw(st.integers(0, 40)))
    assert spent(more) >= spent(forms)


@settings(max_examples=25, deadline=None)
@given(models())
def test_the_smallest_budget_can_be_met_and_one_byte_less_cannot(model):
    sites, ladders = model
    least, most = bounds(sites, ladders)
    assert spent(allocate(sites, ladders, budget_bytes=least)) == least
    assert spent(allocate(sites, ladders, budget_bytes=most)) == most
    with pytest.raises(BudgetError, match=f"the smallest that can is {least:,}"):
        allocate(sites, ladders, budget_bytes=least - 1)


def test_linears_of_one_shape_differ_by_a_step_at_most_and_the_first_come_first():
    shape = (4, 4)
    ladders = {shape: Ladder(shape, tuple(_Priced(shape, price) for price in (2, 5, 9)))}
    sites = [SiteShape(f"linear.{k}", 0, shape) for k in range(3)]
    forms = allocate(sites, ladders, budget_bytes=13)
    assert [blob_bytes(forms[site.name]) for site in sites] == [5, 5, 2]


def test_a_dear_linear_keeps_its_smallest_form_and_the_others_make_up_for_it():
    small, large = (1, 1), (8, 8)
    ladders = {
        small: Ladder(small, (_Priced(small, 30),)),
        large: Ladder(large, tuple(_Priced(large, price) for price in (4, 8, 12))),
    }
    sites = [SiteShape("linear.0", 0, small), SiteShape("linear.1", 0, large)]
    forms = allocate(sites, ladders, budget_bytes=39)
    assert [blob_bytes(form) for form in forms.values()] == [30, 8]
