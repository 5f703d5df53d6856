"""A weight in other coordinates, and what an error costs there.

    W = L^T W' R      W' = L^-T W R^-1      cols' = R cols R^T      rows' = L rows L^T

so that error'(E') = error(E) for E = L^T E' R, whatever is done to W' in between.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Metric, Moment
from liptt_cli.formats.base import Encoded
from liptt_cli.formats.steps import Permutation, Scale, Step
from liptt_cli.formats.turned import Steps, Turned, undone


@dataclass(frozen=True)
class Turn:
    """The steps on the outputs and on the inputs of a weight, from the weight to what is encoded."""

    left: Steps = ()
    right: Steps = ()

    def forward(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """Return the weight in the new coordinates."""
        rows = undone(self.right, weight)
        return undone(self.left, rows.T).T if self.left else rows

    def metric(self, metric: Metric, *, shape: tuple[int, int]) -> Metric:
        """Return the metric in the new coordinates of a weight of this shape; it has no pivot."""
        rows, cols = (
            _moment(moment, steps, channels)
            for moment, steps, channels in ((metric.rows, self.left, shape[0]), (metric.cols, self.right, shape[1]))
        )
        return Metric(rows, cols)

    def wrap(self, value: Encoded) -> Encoded:
        """Return a value of the new coordinates as one of the old."""
        return Turned(value, self.left, self.right) if self.left or self.right else value

    def then(self, inner: "Turn") -> "Turn":
        """Return this turn with another one inside of it."""
        return Turn((*self.left, *inner.left), (*self.right, *inner.right))


def _moment(moment: Moment | None, steps: Steps, channels: int) -> Moment | None:
    """Return T M T^T, step by step: nothing is the identity, a diagonal stays one until a step mixes channels."""
    for step in steps:
        if isinstance(step, Scale) and moment is None:
            moment = torch.ones(channels, dtype=torch.float32, device=step.scale.device)
        moment = None if moment is None else _one(moment, step)
    return moment


def _one(moment: Moment, step: Step) -> Moment:
    """Return T M T^T of one step; `inward` is linear, so a diagonal goes through what only scales or moves channels."""
    if moment.ndim == 2 or step.form.kind in ("hadamard", "haar"):
        whole = moment if moment.ndim == 2 else torch.diag(moment)
        return step.inward(step.inward(whole).T)
    if isinstance(step, Permutation):
        return step.inward(moment)
    return step.inward(step.inward(moment))
