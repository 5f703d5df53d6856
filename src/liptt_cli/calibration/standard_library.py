"""The text that every CPython carries: documentation topics and docstrings, split by module name.

The corpus needs no network and no licence question. It differs between Python versions, so its
sha256 goes into each manifest and numbers compare within one version only.
"""

import ast
import functools
import hashlib
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal

Side = Literal["calibration", "evaluation"]

_SKIPPED = frozenset(
    {"__pycache__", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests", "turtledemo"}
)
_SHARED_WORDS = 13
_SHORTEST_DOCSTRING = 40
_EVALUATION_ONE_IN = 3
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def standard_library(side: Side) -> list[str]:
    """Return one side's documents, ordered by name: a top-level module or a help topic each.

    Modules that share a 13-word sequence are on one side, so that no such sequence of the
    evaluation side was ever calibrated on. About two thirds of the names are for calibration.
    """
    return [text for text, place in _placed() if place == side]


@functools.cache
def _placed() -> tuple[tuple[str, Side], ...]:
    """Return each document with its side, ordered by name; read once, as it takes seconds."""
    documents = dict(_documents())
    sides = _sides(documents)
    return tuple((documents[name], sides[name]) for name in sorted(documents))


def _documents() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    modules: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if _SKIPPED.isdisjoint(parts) and not parts[0].startswith(("config-", "_sysconfig")):
            modules.setdefault(parts[0].removesuffix(".py"), []).extend(_docstrings(path))
    yield from ((name, "\n\n".join(found)) for name, found in modules.items() if found)
    yield from ((f"topic:{name}", text.strip()) for name, text in topics.items())


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, _DOCUMENTED):
            text = ast.get_docstring(node)
            if text and len(text) >= _SHORTEST_DOCSTRING:
                yield text


def _sides(documents: Mapping[str, str]) -> dict[str, Side]:
    """Give each name a side: the hash of the first name among those it shares a sequence with."""
    leader = {name: name for name in documents}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    owner: dict[tuple[str, ...], str] = {}
    for name in sorted(documents):
        words = documents[name].split()
        for start in range(len(words) - _SHARED_WORDS + 1):
            other = owner.setdefault(tuple(words[start : start + _SHARED_WORDS]), name)
            if other != name:
                first, second = sorted((find(other), find(name)))
                leader[second] = first
    return {name: _side_of(find(name)) for name in documents}


def _side_of(name: str) -> Side:
    held_out = hashlib.sha256(name.encode()).digest()[0] % _EVALUATION_ONE_IN == 0
    return "evaluation" if held_out else "calibration"
