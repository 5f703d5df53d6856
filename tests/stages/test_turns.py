"""The order of compression: shared inputs together, or role by role, and what does not fit a model is refused."""

import pytest

from liptt_cli.errors import ConfigError
from liptt_cli.models.blocks import Site, Structure
from liptt_cli.stages.turns import alike, refuse_unfit_roles, turns

ROLES = {"query": 0, "key": 0, "value": 0, "output": 1, "gate": 2, "up": 2, "down": 3}
SITES = tuple(Site(f"m.{b}.{role}", role, b, (4, 4), False, group) for b in (0, 1) for role, group in ROLES.items())
STRUCTURE = Structure("m", 2, SITES, ())
ORDER = ["query", "value", "output", "key", "up", "gate", "down"]


def names(order):
    return [[site.name for site in turn] for turn in turns(STRUCTURE, 1, order=order)]


def test_shared_inputs_go_together_in_call_order():
    wanted = [["query", "key", "value"], ["output"], ["gate", "up"], ["down"]]
    assert names("shared") == [[f"m.1.{role}" for role in turn] for turn in wanted]


def test_a_list_of_roles_goes_one_by_one():
    assert names(ORDER) == [[f"m.1.{role}"] for role in ORDER]
    refuse_unfit_roles(STRUCTURE, order=ORDER, before=["query", "key"])
    refuse_unfit_roles(STRUCTURE, order="shared", before="all")


def test_alike_are_the_groups_of_all_experts_at_one_place():
    """Gates and ups of three experts, one gate skipped, then their downs."""
    places = [(n, leaf, 2 + n) for n in range(3) for leaf in ("gate", "up")] + [(n, "down", 5 + n) for n in range(3)]
    experts = [
        Site(f"m.0.mlp.experts.{n}.{leaf}_proj", leaf, 0, (4, 4), False, group)
        for n, leaf, group in places
        if (n, leaf) != (1, "gate")
    ]
    mixed = Structure("m", 2, (*SITES[:4], *experts), ())
    assert [site.name for group in alike(mixed, SITES[1]) for site in group] == ["m.0.query", "m.0.key", "m.0.value"]
    up, down = (next(site for site in experts if site.role == role) for role in ("up", "down"))
    assert [group[0].group for group in alike(mixed, up)] == [2, 3, 4]
    assert [group[0].group for group in alike(mixed, down)] == [5, 6, 7]


@pytest.mark.parametrize(
    ("order", "before", "messages"),
    [
        ([*ORDER, "router"], "all", ['binarize.order: no linear has the role "router"; the roles here are query, key']),
        (ORDER[1:], "all", ['binarize.order: m.0.query has the role "query", which is not in the list']),
        ("shared", ["q_proj"], ['binarize.rest.before: no linear has the role "q_proj"']),
        (["query", "wq"], "all", ['role "wq"', "m.0.key has", "m.0.value has", "m.0.output has", "m.0.gate has"]),
    ],
)
def test_what_does_not_fit_the_model_is_named(order, before, messages):
    with pytest.raises(ConfigError) as caught:
        refuse_unfit_roles(STRUCTURE, order=order, before=before)
    for message in messages:
        assert message in str(caught.value)
