"""What stands inside a group or a tag of the harness's index: the configurations of single tasks, no data loaded."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(name: str, index: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the configurations of the single tasks that a task, a group or a tag stands for.

    Args:
        name: of a task, a group or a tag.
        index: the harness's entries by name.
    """
    entry = index[name]
    if entry.kind.name == "TAG":
        for task in sorted(entry.tags):
            yield from leaves(task, index)
    elif entry.kind.name == "GROUP":
        yield from _of_members((entry.cfg or {}).get("task"), index)
    else:
        yield dict(entry.cfg or {})


def _of_members(members: Any, index: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for member in members if isinstance(members, list) else []:
        if isinstance(member, str):
            yield from leaves(member, index)
        elif isinstance(member.get("task"), list):
            yield from _of_members(member["task"], index)
        else:
            yield from ({**leaf, **member} for leaf in leaves(member.get("task") or member["group"], index))
