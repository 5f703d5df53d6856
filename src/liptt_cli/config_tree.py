"""A configuration as a tree in which every key and value knows where it was written.

Layers are merged here, so that a fault in the merged whole still points into the file, or at the
`--set`, that it came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from liptt_cli.errors import ConfigError, Fault

Plain = Any  # whatever JSON can say: nested dicts and lists of text, numbers, booleans and None

_RIVALS = {"bits_per_weight": "target_size", "target_size": "bits_per_weight"}


@dataclass(frozen=True)
class Place:
    """A file, and the line and column in it, both counted from 1; a `--set` has neither."""

    file: str
    line: int | None = None
    column: int | None = None

    def fault(self, key: str, message: str) -> Fault:
        """Return a fault at this place."""
        return Fault(key, message, self.file, self.line, self.column)


@dataclass(frozen=True)
class Tree:
    """A value with its place; `keys` has the place of each key of a mapping."""

    value: "Mapping[str, Tree] | Sequence[Tree] | str | int | float | bool | None"
    place: Place
    keys: Mapping[str, Place]

    def child(self, step: str | int) -> "Tree | None":
        """Return the entry under a key or a number, None where there is none."""
        if isinstance(self.value, Mapping):
            return self.value.get(str(step))
        if isinstance(self.value, Sequence) and not isinstance(self.value, str) and isinstance(step, int):
            return self.value[step] if 0 <= step < len(self.value) else None
        return None

    def plain(self) -> Plain:
        """Return the value without places."""
        if isinstance(self.value, Mapping):
            return {key: entry.plain() for key, entry in self.value.items()}
        if isinstance(self.value, Sequence) and not isinstance(self.value, str):
            return [entry.plain() for entry in self.value]
        return self.value


def merge(low: Tree, high: Tree) -> Tree:
    """Lay one tree over another: mappings merge key by key, anything else is replaced.

    A mapping that names another `kind` replaces the old one whole. Of the two spellings of the dial,
    `bits_per_weight` and `target_size`, one that the higher layer sets replaces the other.
    """
    if not isinstance(low.value, Mapping) or not isinstance(high.value, Mapping) or _changes_kind(low, high):
        return high
    given = {key for key, entry in high.value.items() if key in _RIVALS and entry.value is not None}
    replaced = {_RIVALS[key] for key in given} - set(high.value)
    value = {key: entry for key, entry in low.value.items() if key not in replaced}
    for key, entry in high.value.items():
        value[key] = merge(value[key], entry) if key in value else entry
    return Tree(value, high.place, {**low.keys, **high.keys})


def assign(tree: Tree, steps: Sequence[str], leaf: Tree) -> Tree:
    """Lay one value over the tree at a path of keys and list numbers; absent mappings are made on the way."""
    if not steps:
        return merge(tree, leaf)
    step = steps[0]
    if isinstance(tree.value, Sequence) and not isinstance(tree.value, str):
        return _assign_entry(tree.value, tree.place, steps, leaf)
    below = tree.child(step) or Tree({}, leaf.place, {})
    return merge(tree, Tree({step: assign(below, steps[1:], leaf)}, leaf.place, {step: leaf.place}))


def _assign_entry(entries: Sequence[Tree], place: Place, steps: Sequence[str], leaf: Tree) -> Tree:
    number = int(steps[0]) if steps[0].isdecimal() else -1
    if not 0 <= number < len(entries):
        message = f"the list has {len(entries)} entries, numbered from 0; there is no {steps[0]!r}"
        raise ConfigError(leaf.place.fault(".".join(steps), message))
    changed = [assign(entry, steps[1:], leaf) if index == number else entry for index, entry in enumerate(entries)]
    return Tree(changed, place, {})


def _changes_kind(low: Tree, high: Tree) -> bool:
    old, new = low.child("kind"), high.child("kind")
    return old is not None and new is not None and old.value != new.value
