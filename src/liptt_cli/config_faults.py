"""What a model of options refuses, told as faults: where it was written, what would do, the nearest known name."""

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from liptt_cli.config_tree import Place, Tree
from liptt_cli.errors import Fault

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
}
_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}


def faults(error: ValidationError, *, tree: Tree, model: type[BaseModel]) -> list[Fault]:
    """Return one fault for each thing refused, in the order in which they are written."""
    by_path: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors():
        by_path.setdefault(_path(tree, detail), []).append(detail)
    innermost = [path for path in by_path if not any(other[: len(path)] == path != other for other in by_path)]
    found = [_fault(tree, path, by_path[path], model) for path in innermost]
    return sorted(found, key=lambda fault: (fault.file or "", fault.line or 0, fault.column or 0))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean '...'?` for the known name that is most like this one, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def _path(tree: Tree, detail: ErrorDetails) -> tuple[str | int, ...]:
    """Return pydantic's location without the parts that only name a member of a union."""
    path: list[str | int] = []
    node: Tree | None = tree
    kind_named = False
    for index, step in enumerate(detail["loc"]):
        kind = node.child("kind") if node is not None else None
        if kind is not None and kind.value == step and not kind_named:
            kind_named = True
            continue
        below = node.child(step) if node is not None else None
        if below is not None or (detail["type"] == "missing" and index == len(detail["loc"]) - 1):
            path.append(step)
            node, kind_named = below, False
    return tuple(path)


def _fault(tree: Tree, path: tuple[str | int, ...], details: Sequence[ErrorDetails], model: type[BaseModel]) -> Fault:
    detail = details[0]
    parent = _models_at([model], tree, path[:-1])
    if detail["type"] == "extra_forbidden":
        known = sorted({name for record in parent for name in record.model_fields})
        message = f"unknown key.{nearest(str(path[-1]), known) or ' Known: ' + ', '.join(known) + '.'}"
        return _place(tree, path, of_key=True).fault(_spell(path), message)
    expected = list(dict.fromkeys(phrase for phrase in map(_expected, details) if phrase))
    if expected:
        value = detail["input"]
        close = nearest(value, re.findall(r"'([^']*)'", " ".join(expected))) if isinstance(value, str) else ""
        message = f"expected {' or '.join(expected)}, not {_show(value)}{_help(parent, path)}.{close}"
    else:
        message = _refusal(detail)
    if detail["type"] == "union_tag_invalid":
        path = (*path, "kind")
    return _place(tree, path, of_key=False).fault(_spell(path), message)


def _expected(detail: ErrorDetails) -> str:
    """Return what would do in place of a value of the wrong type or out of its range, nothing for other faults."""
    kind = detail["type"]
    if kind in _LIMITS:
        word, bound = _LIMITS[kind]
        return f"a number {word} {detail['ctx'][bound]:g}"
    return str(detail["ctx"]["expected"]) if kind == "literal_error" else _EXPECTED.get(kind, "")


def _refusal(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "union_tag_invalid":
        known = context["expected_tags"].replace("'", "")
        return f"no kind {context['tag']!r}.{nearest(context['tag'], known.split(', '))} Known: {known}."
    if detail["type"] == "union_tag_not_found":
        return "a mapping with a `kind` is needed here"
    if detail["type"] == "missing":
        return "this key is needed"
    return detail["msg"].removeprefix("Value error, ")


def _show(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the text {value!r}" if isinstance(value, str) else repr(value)


def _help(parent: Sequence[type[BaseModel]], path: Sequence[str | int]) -> str:
    """Return what the key is for, with its unit, as its option record describes it."""
    names = [step for step in path if isinstance(step, str)]
    for record in parent:
        field = record.model_fields.get(names[-1]) if names else None
        if field is not None and field.description:
            return f" ({field.description})"
    return ""


def _spell(path: Sequence[str | int]) -> str:
    return ".".join(str(step) for step in path)


def _place(tree: Tree, path: Sequence[str | int], *, of_key: bool) -> Place:
    """Return where the value at a path stands, or its key; of an absent one, where its parent does."""
    node, place = tree, tree.place
    for index, step in enumerate(path):
        below = node.child(step)
        if below is None:
            break
        last = index == len(path) - 1
        place = node.keys.get(str(step), below.place) if last and of_key else below.place
        node = below
    return place


def _models_at(models: list[type[BaseModel]], tree: Tree, path: Sequence[str | int]) -> list[type[BaseModel]]:
    """Return the option records that may stand at a path, by the kind written there if one is."""
    node: Tree | None = tree
    for step in path:
        node = node.child(step) if node is not None else None
        if isinstance(step, str):
            fields = [record.model_fields[step] for record in models if step in record.model_fields]
            if fields:  # else a name in a mapping, whose values these records are
                models = [record for field in fields for record in _records(field)]
        kind = node.child("kind") if node is not None else None
        if kind is not None:
            models = [record for record in models if kind.value in _kinds(record)] or models
    return models


def _kinds(record: type[BaseModel]) -> tuple[Any, ...]:
    field = record.model_fields.get("kind")
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()


def _records(field: FieldInfo) -> Iterator[type[BaseModel]]:
    yield from _records_in(field.annotation)


def _records_in(annotation: Any) -> Iterator[type[BaseModel]]:  # Any: an annotation has no narrower type
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, types.UnionType, list, tuple, dict):
        for part in get_args(annotation):
            yield from _records_in(part)
