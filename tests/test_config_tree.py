"""Layers of a configuration: what replaces what, and where each part was written."""

import pytest

from liptt_cli.config import parse_yaml
from liptt_cli.config_tree import Place, Tree, assign, merge
from liptt_cli.errors import ConfigError


def _merged(low: str, high: str) -> object:
    return merge(parse_yaml(low, name="low"), parse_yaml(high, name="high")).plain()


def test_mappings_merge_key_by_key_and_lists_are_replaced():
    assert _merged("{a: {b: 1, c: [1, 2]}, d: 4}", "{a: {c: [3]}, e: 5}") == {"a": {"b": 1, "c": [3]}, "d": 4, "e": 5}


@pytest.mark.parametrize(
    ("high", "merged"),
    [
        ("{solver: {kind: direct}}", {"solver": {"kind": "direct"}}),
        ("{solver: {kind: admm, rho: cubic}}", {"solver": {"kind": "admm", "iterations": 9, "rho": "cubic"}}),
        ("{solver: {iterations: 3}}", {"solver": {"kind": "admm", "iterations": 3}}),
        ("{solver: null}", {"solver": None}),
    ],
)
def test_only_another_kind_replaces_a_mapping_whole(high: str, merged: object):
    assert _merged("{solver: {kind: admm, iterations: 9}}", high) == merged


def test_one_spelling_of_the_dial_replaces_the_other():
    assert _merged("{bits_per_weight: 1.0}", "{target_size: 900MB}") == {"target_size": "900MB"}
    assert _merged("{target_size: 900MB}", "{bits_per_weight: 1.0}") == {"bits_per_weight": 1.0}
    both = {"bits_per_weight": 1.0, "target_size": "1GB"}
    assert _merged("{}", "{bits_per_weight: 1.0, target_size: 1GB}") == both


def test_each_part_of_a_merged_tree_knows_its_file():
    merged = merge(parse_yaml("a: {b: 1,\n  c: 2}", name="low"), parse_yaml("\na:\n   c: 3", name="high"))
    below = merged.child("a")
    assert below is not None
    assert below.keys == {"b": Place("low", 1, 5), "c": Place("high", 3, 4)}
    assert below.child("b") == Tree(1, Place("low", 1, 8), {})


def test_assignment_reaches_keys_list_entries_and_what_is_absent():
    tree = parse_yaml("{a: [{b: 1}, {b: 2}]}", name="file")
    changed = assign(tree, ["a", "1", "b"], Tree(3, Place("--set"), {}))
    assert assign(changed, ["c", "d"], Tree(4, Place("--set"), {})).plain() == {
        "a": [{"b": 1}, {"b": 3}],
        "c": {"d": 4},
    }
    assert tree.plain() == {"a": [{"b": 1}, {"b": 2}]}


@pytest.mark.parametrize("step", ["2", "-1", "b", "1.5"])
def test_a_list_entry_that_is_not_there_is_refused(step: str):
    with pytest.raises(ConfigError, match=r"the list has 2 entries"):
        assign(parse_yaml("[1, 2]", name="file"), [step], Tree(3, Place("--set"), {}))


def test_assigning_another_kind_clears_what_belonged_to_the_old_one():
    tree = parse_yaml("{solver: {kind: admm, iterations: 9}}", name="file")
    assert assign(tree, ["solver", "kind"], Tree("direct", Place("--set"), {})).plain() == {
        "solver": {"kind": "direct"}
    }
