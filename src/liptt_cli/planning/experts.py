"""Experts by their names: how files store them, and how a model calls them. Torch-free.

    Qwen-MoE, DeepSeek, OLMoE, ..   X.mlp.experts.3.gate_proj.weight, up_proj, down_proj    stored as they are called
    Mixtral                         X.block_sparse_moe.experts.3.w1.weight, w3, w2          called X.mlp.experts.3.w1

    fused                           X.mlp.experts.gate_up_proj (experts, 2 inner, width), X.mlp.experts.down_proj

transformers fuses all experts of a block into two tensors when it loads them, and may save them so; `models/experts.py`
undoes that, so each linear of an expert is one like any other. What chooses the experts (`gate` or `router` beside
them, and the gate of a shared expert) is never one: it is small, every later choice hangs on it, and most families keep
it as a bare matrix.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

Leaves = tuple[str, str, str]

GATED: Leaves = ("gate_proj", "up_proj", "down_proj")
MIXTRAL: Leaves = ("w1", "w3", "w2")
_STORED, _CALLED = ".block_sparse_moe.", ".mlp."
_OF_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(\w+)")
_OF_MIXTRAL = re.compile(r"\.experts\.\d+\.w[123]\b")
_FUSED_GATES, _FUSED_DOWNS = ".experts.gate_up_proj", ".experts.down_proj"
_ROUTERS = ("gate", "router", "shared_expert_gate")


class Place(NamedTuple):
    """Where a linear of an expert stands: `X.mlp.experts`, the expert's number there, and its own name in it."""

    experts: str
    number: int
    leaf: str


def place_of(linear: str) -> Place | None:
    """Return where a linear stands, None if it belongs to no expert."""
    match = _OF_EXPERT.fullmatch(linear)
    return None if match is None else Place(match[1], int(match[2]), match[3])


def pool_of(linear: str) -> tuple[str, str] | None:
    """Return what the linears at one place of all experts of a block have in common, None for one of no expert."""
    place = place_of(linear)
    return None if place is None else (place.experts, place.leaf)


class Part(NamedTuple):
    """One matrix of an expert inside of a stored fused tensor: the rows of that expert from `first` on."""

    fused: str
    number: int
    first: int
    shape: tuple[int, int]


def parts_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Part]:
    """Return what stored fused experts hold, by the name that each matrix would have alone.

    Args:
        shapes: of all stored tensors. Fused ones of another layout (transposed, with biases) are passed over.
    """
    found: dict[str, Part] = {}
    for gates, shape in shapes.items():
        experts, ending, _ = gates.partition(_FUSED_GATES)
        downs = f"{experts}{_FUSED_DOWNS}"
        if not ending or gates != experts + ending or f"{gates}_bias" in shapes or len(shape) != 3:
            continue
        count, inner, width = shape[0], shape[1] // 2, shape[2]
        if shape[1] == 2 * inner and shapes.get(downs) == (count, width, inner):
            rows = zip(GATED, (gates, gates, downs), (0, inner, 0), strict=True)
            for leaf, fused, first in rows:
                size = (width, inner) if fused == downs else (inner, width)
                found |= {f"{experts}.experts.{n}.{leaf}.weight": Part(fused, n, first, size) for n in range(count)}
    return found


def leaves_among(names: Iterable[str]) -> Leaves:
    """Return how the linears of an expert are called in a model whose tensors, or linears, have these names."""
    return MIXTRAL if any(_OF_MIXTRAL.search(name) for name in names) else GATED


def routers_among(linears: Collection[str]) -> frozenset[str]:
    """Return those of the names that are routers."""
    modules = {place.experts.rpartition(".")[0] for name in linears if (place := place_of(name))}
    return frozenset(name for name in linears if (parts := name.rpartition("."))[0] in modules and parts[2] in _ROUTERS)


def stored_as(called: str) -> str:
    """Return the other name under which a file may hold a tensor, the same where there is none."""
    return called.replace(_CALLED, _STORED, 1)


def called_as(stored: Collection[str]) -> dict[str, str]:
    """Return what a model calls each of its stored tensors."""
    renamed = any(_STORED in name and _OF_MIXTRAL.search(name) for name in stored)
    return {name: name.replace(_STORED, _CALLED, 1) if renamed else name for name in stored}
