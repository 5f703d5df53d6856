"""What errors cost in the linears of a block, by the block as it is when they are asked for.

Columns by what the linears see: those that share an input share one moment, one tensor for the whole group.
Rows by the squared gradients of each linear's own outputs (diagonal Fisher, as DBF, arXiv:2505.11076). Both are
damped and shrunk alike; a row without any gradient still counts a millionth of the mean one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Look, Metric, metric, shrunk
from liptt_cli.calibration.collect import seen_by
from liptt_cli.calibration.walk import Visit
from liptt_cli.layers.surgery import get_module
from liptt_cli.models.blocks import Site
from liptt_cli.stages.job import Job

_LEAST_ROW = 1e-6


@dataclass(frozen=True)
class Costs:
    """The metrics of a run's linears."""

    job: Job

    def of(self, visit: Visit, group: Sequence[Site]) -> dict[str, Metric]:
        """Return the metric of each linear of a group, by its name."""
        shared = self._columns(visit, group)
        return {site.name: Metric(self._rows(site), shared.cols) for site in group}

    def _columns(self, visit: Visit, group: Sequence[Site]) -> Metric:
        options, calibration = self.job.config.binarize, self.job.config.calibration
        kind = options.metric.cols
        hidden = visit.clean if options.inputs == "clean" else visit.prefix
        if kind == "none" or hidden is None:
            return Metric()
        prefix = self.job.structure.block_name(visit.number)
        linear = get_module(visit.block, group[0].name.removeprefix(f"{prefix}."))
        look = Look(kind == "full", calibration.clip_percentile)
        seen = seen_by(linear, visit.block, hidden, run=visit.run, look=look)
        return metric(seen, kind, damping=calibration.damping, shrinkage=calibration.shrinkage)

    def _rows(self, site: Site) -> Float[Tensor, " out"] | None:
        """Return the weights of a linear's rows; None if they are not wanted, or nothing ever came back to it."""
        if self.job.config.binarize.metric.rows == "none":
            return None
        calibration = self.job.config.calibration
        squares = self.job.gradient_squares[site.name].to(torch.float64)
        weights = shrunk(squares, damping=calibration.damping, shrinkage=calibration.shrinkage)
        return weights.clamp_min(_LEAST_ROW * float(weights.mean())) if bool(weights.any()) else None
