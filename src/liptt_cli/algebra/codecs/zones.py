"""A weight whose entries are of several kinds: a mask proposes the zones, stand-ins judge, each part fills its own.

    choose    score -> candidates of the mask -> the one of least error, for all rows or for each (`judge`)
    fit       each part on the entries of its zone; zones may be zones again, and zero is a part

Candidates are judged by the squared error of planes of signs (`Trial`), which is what the papers do and keeps nested
searches additive; or, for a whole weight, by what a plain rounding of each zone makes of its outputs. Labels that were
chosen stay: rounding other values later, as compensated ones in a sweep, keeps them, so zeros of N:M stay zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from liptt_cli.algebra.codecs.base import WeightCodec, WeightFit
from liptt_cli.algebra.masks.base import Mask, Proposal, Trial
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.scores import SCORES
from liptt_cli.formats.pieces import Labelled, Told
from liptt_cli.tensors.cholesky import inverse_root

Judge = Literal["first", "error", "row_error", "output_kl"]

_DRAWS = 256


@dataclass(frozen=True)
class Choice:
    """How labels are chosen: by which mask and score, once or in each fit, and which candidate is taken.

    `trials` stand in for the parts; with `on_scores` they are judged on the scores instead of the values. What rounds a
    zone for `output_kl` is one of `stand_ins`.
    """

    mask: Mask
    score: str = "magnitude"
    scope: Literal["weight", "fit"] = "fit"
    judge: Judge = "error"
    trials: Sequence[Trial] = ()
    on_scores: bool = False
    stand_ins: Sequence[WeightCodec] = ()

    def labels(
        self, values: Float[Tensor, "out some"], metric: Metric, *, where: Bool[Tensor, "out some"] | None = None
    ) -> UInt8[Tensor, "out some"]:
        """Return the zone of each entry."""
        score = SCORES[self.score](values, metric)
        proposal = self.mask.propose(score, where=where)
        if proposal.count == 1 or self.judge == "first":
            return proposal.labels(torch.zeros(1, dtype=torch.long, device=values.device))
        if self.judge == "output_kl":
            return proposal.labels(_by_outputs(proposal, values, self.stand_ins, metric))
        errors = proposal.errors(score if self.on_scores else values, self.trials)
        return proposal.labels(errors.argmin(0) if self.judge == "row_error" else errors.sum(1).argmin().reshape(1))


@dataclass(frozen=True)
class ZonesFit:
    """The labels of a range of columns, and what was fitted to each zone."""

    labels: UInt8[Tensor, "out some"]
    parts: tuple[WeightFit, ...]
    told: Told
    run: int

    def round(self, values: Float[Tensor, "out few"], *, start: int = 0) -> Labelled:
        """Return each part's rounding under the labels."""
        labels = self.labels[:, start : start + values.shape[1]]
        return Labelled(labels, tuple(part.round(values, start=start) for part in self.parts), self.told, self.run)


@dataclass(frozen=True)
class ZonesCodec:
    """Parts by zone. `chosen` are the labels of the prepared columns, and `width` the columns of the whole weight."""

    choice: Choice
    parts: tuple[WeightCodec, ...]
    chosen: UInt8[Tensor, "out some"] | None = None
    width: int | None = None

    @property
    def needs_pivot(self) -> bool:
        """Return whether the score or a part divides by pivots."""
        return self.choice.score == "obs" or any(part.needs_pivot for part in self.parts)

    @property
    def group_columns(self) -> int | None:
        """Return what is whole groups of each part, and whole runs of the labels."""
        groups = [part.group_columns for part in self.parts]
        return None if None in groups else lcm(self.choice.mask.run, *(group for group in groups if group is not None))

    @property
    def step_columns(self) -> int | None:
        """Return the parts' step where the labels are chosen once; else a range is rounded as a whole."""
        steps = [part.step_columns for part in self.parts]
        if self.choice.scope == "fit" or None in steps:
            return None
        return lcm(*(step for step in steps if step is not None))

    def prepare(self, weight: Float[Tensor, "out in"], *, metric: Metric) -> "ZonesCodec":
        """Return the codec with labels that are chosen once, and prepared parts."""
        parts = tuple(part.prepare(weight, metric=metric) for part in self.parts)
        chosen = self.choice.labels(weight, metric) if self.choice.scope == "weight" else None
        return replace(self, parts=parts, chosen=chosen, width=weight.shape[1])

    def columns(self, start: int, stop: int) -> "ZonesCodec":
        """Return the codec of a range of columns."""
        parts = tuple(part.columns(start, stop) for part in self.parts)
        return replace(self, parts=parts, chosen=None if self.chosen is None else self.chosen[:, start:stop])

    def fit(
        self, values: Float[Tensor, "out some"], *, metric: Metric, where: Bool[Tensor, "out some"] | None = None
    ) -> ZonesFit:
        """Return labels, and each part's fit to its zone."""
        labels = self.chosen
        if labels is None:
            labels = self.choice.labels(values, metric, where=where)
        regions = [labels == zone if where is None else (labels == zone) & where for zone in range(len(self.parts))]
        fits = [part.fit(values, metric=metric, where=each) for part, each in zip(self.parts, regions, strict=True)]
        return ZonesFit(labels, tuple(fits), self.choice.mask.told(self.width or values.shape[1]), self.choice.mask.run)


def _by_outputs(
    proposal: Proposal, weight: Float[Tensor, "out in"], parts: Sequence[WeightCodec], metric: Metric
) -> Int64[Tensor, " one"]:
    """Return the candidate whose outputs, as logarithms of chances, diverge least from the weight's.

    Inputs are drawn with the second moment that calibration saw, which is all that is kept of it.
    """
    inputs = _drawn(metric, weight)
    wanted = (inputs @ weight.T).log_softmax(1)
    rounded = [part.fit(weight, metric=metric).round(weight).dense(weight.dtype) for part in parts]
    found = []
    for number in range(proposal.count):
        labels = proposal.labels(torch.tensor([number], device=weight.device))
        mixed = torch.zeros_like(weight)
        for zone, each in enumerate(rounded):
            mixed = torch.where(labels == zone, each, mixed)
        given = (inputs @ mixed.T).log_softmax(1)
        found.append(torch.nn.functional.kl_div(given, wanted, log_target=True, reduction="batchmean"))
    return torch.stack(found).argmin().reshape(1)


def _drawn(metric: Metric, like: Float[Tensor, "out in"]) -> Float[Tensor, "draws in"]:
    """Return normal inputs of the metric's second moment, always the same ones."""
    noise = torch.randn(_DRAWS, like.shape[1], generator=torch.Generator().manual_seed(0), dtype=like.dtype).to(like)
    if metric.cols is None:
        return noise
    if metric.cols.ndim == 1:
        return noise * metric.cols.sqrt()
    drawn: Tensor = torch.linalg.solve_triangular(inverse_root(metric.cols, damping=0.0)[0], noise.T, upper=True).T
    return drawn
