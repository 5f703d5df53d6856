"""The contract of an objective: what a training lowers.

Laws: a distance is zero when the student is the teacher, and never negative; its gradients are finite. Each loss is a
mean over windows, so that the mean over equal batches, or over processes, is the loss of all their windows at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Hidden = Mapping[int, Float[Tensor, "windows tokens width"]]


@dataclass(frozen=True)
class Trace:
    """One forward pass.

    `labels` are the tokens that `logits` predict, -100 where there is none. `hidden[-1]` is the embedded input of
    block 0 and `hidden[b]` the output of block b. A block that is tuned alone counts as block 0. `block(b, h)` runs
    block b of this model on other inputs of the same windows, with gradients where they are enabled.
    """

    logits: Float[Tensor, "windows tokens vocabulary"] | None = None
    labels: Int[Tensor, "windows tokens"] | None = None
    hidden: Hidden = field(default_factory=dict)
    block: Callable[[int, Tensor], Tensor] | None = None
    weights: Mapping[int, Float[Tensor, " width"]] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """One term of a loss."""

    kind: ClassVar[str]

    @property
    def needs(self) -> frozenset[str]:
        """Return what a trace must hold, of logits, labels, hidden and block."""
        ...

    @property
    def weight(self) -> float:
        """Return the term's weight in the loss; `loss` itself is without it."""
        ...

    def loss(self, student: Trace, teacher: Trace, *, generator: torch.Generator) -> Float[Tensor, ""]:
        """Return the unweighted loss; the generator lives on the CPU."""
        ...


def logits_of(trace: Trace) -> Float[Tensor, "windows tokens vocabulary"]:
    """Return the logits, in float32 at least."""
    if trace.logits is None:
        raise ValueError("this objective needs logits, and the trace has none")
    return trace.logits.to(torch.promote_types(trace.logits.dtype, torch.float32))


def block_numbers(student: Trace, teacher: Trace) -> list[int]:
    """Return the blocks whose outputs both traces hold."""
    found = sorted(b for b in student.hidden if b >= 0 and b in teacher.hidden)
    if not found:
        raise ValueError("this objective needs the outputs of blocks, and the traces share none")
    return found
