"""A weight stored in other coordinates: W = L^T inner R; forms/turned.py has the steps of L and R.

Inputs go through R, then through the inner weight, then back through L^T: each by fast steps, so a turn costs a vector
n log n at most, and no matrix of it is ever formed.
"""

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.steps import Step
from liptt_cli.forms.turned import TurnedForm

Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Turned:
    """A value between two turns; the steps of each are told from the weight to the inner value."""

    inner: Encoded
    left: Steps = ()
    right: Steps = ()

    @property
    def form(self) -> TurnedForm:
        """Return what is stored."""
        left, right = (tuple(step.form for step in steps) for steps in (self.left, self.right))
        return TurnedForm(self.inner.form, left, right)

    def dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        rows = outward(self.right, self.inner.dense(dtype))
        return outward(self.left, rows.T).T if self.left else rows

    def apply(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ dense().T`: the inner weight between the two turns."""
        return outward(self.left, self.inner.apply(inward(self.right, x)))

    def rows(self, index: Int[Tensor, "*lead"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*lead in"]:
        """Return some rows of the matrix, of as many inner ones unless a turn mixes the outputs."""
        if self.left:
            return self.dense(dtype)[index]
        return outward(self.right, self.inner.rows(index, dtype))

    def fields(self) -> dict[str, Tensor]:
        """Return the inner sections, then those of the steps."""
        found = {f"inner.{name}": tensor for name, tensor in self.inner.fields().items()}
        for side, steps in (("left", self.left), ("right", self.right)):
            found |= {f"{side}.{k}.{name}": t for k, step in enumerate(steps) for name, t in step.fields().items()}
        return found

    def settled(self) -> "Turned":
        """Return the inner value and the steps as they are stored."""
        left, right = (tuple(step.settled() for step in steps) for steps in (self.left, self.right))
        return Turned(self.inner.settled(), left, right)


def inward(steps: Steps, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
    """Return the last axis through all steps, from the weight to the inner one."""
    return reduce(lambda found, step: step.inward(found), steps, x)


def outward(steps: Steps, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
    """Return the last axis through all steps transposed, from the inner weight to the weight."""
    return reduce(lambda found, step: step.outward(found), reversed(steps), x)


def undone(steps: Steps, x: Float[Tensor, "*lead n"]) -> Float[Tensor, "*lead n"]:
    """Return rows of the weight as rows of the inner one: the inverse of `outward`."""
    return reduce(lambda found, step: step.undone(found), steps, x)
