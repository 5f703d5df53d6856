"""What errors cost in the linears of a block, by the block as it is when they are asked for.

Columns by what the linears see: those that share an input share one moment, one tensor for the whole group. Those at
one place of all experts of a block are measured together, in one pass, and thin experts are filled up.
Rows by the squared gradients of each linear's own outputs (diagonal Fisher, as DBF, arXiv:2505.11076). Both are
damped and shrunk alike; a row without any gradient still counts a millionth of the mean one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.metric import Look, Metric, Seen, metric, shrunk
from liptt_cli.calibration.collect import each_seen_by, seen_by
from liptt_cli.calibration.experts import filled_up
from liptt_cli.calibration.streams import Hidden
from liptt_cli.calibration.walk import Visit
from liptt_cli.layers.surgery import get_module
from liptt_cli.models.blocks import Site
from liptt_cli.planning.experts import place_of, pool_of
from liptt_cli.stages.job import Job

_LEAST_ROW = 1e-6


@dataclass(frozen=True)
class Costs:
    """The metrics of a run's linears; `tokens` are what was sent to each linear of an expert that was measured."""

    job: Job
    tokens: dict[str, int] = field(default_factory=dict)

    def of(self, visit: Visit, *groups: Sequence[Site]) -> dict[str, Metric]:
        """Return the metric of each linear of some groups, by its name."""
        pools: dict[object, list[Sequence[Site]]] = {}
        for group in groups:
            pools.setdefault(pool_of(group[0].name) or group[0].name, []).append(group)
        found: dict[str, Metric] = {}
        for pool in pools.values():
            for group, shared in zip(pool, self._columns(visit, pool), strict=True):
                found |= {site.name: Metric(self._rows(site), shared.cols) for site in group}
        return found

    def _columns(self, visit: Visit, pool: Sequence[Sequence[Site]]) -> list[Metric]:
        """Return the columns' metric of each group of a pool: one group, or those at one place of several experts."""
        options, calibration = self.job.config.binarize, self.job.config.calibration
        kind = options.metric.cols
        hidden = visit.clean if options.inputs == "clean" else visit.prefix
        if kind == "none" or hidden is None:
            return [Metric()] * len(pool)
        look = Look(kind == "full", calibration.clip_percentile)
        first = self._path(visit, pool[0][0])
        if place_of(first) is None:
            linear = get_module(visit.block, first)
            seen = [seen_by(linear, visit.block, hidden, run=visit.run, look=look)]
        else:
            by_expert = self._experts_seen(visit, first, hidden=hidden, look=look)
            seen = [by_expert[place.number] for group in pool if (place := place_of(group[0].name))]
            for group, each in zip(pool, seen, strict=True):
                self.tokens.update(dict.fromkeys((site.name for site in group), each.tokens))
        return [metric(each, kind, damping=calibration.damping, shrinkage=calibration.shrinkage) for each in seen]

    def _experts_seen(self, visit: Visit, path: str, *, hidden: Hidden, look: Look) -> dict[int, Seen]:
        """Return what all experts of a block saw at one place, filled up, by their numbers; skipped ones count too."""
        home, _, leaf = path.rsplit(".", 2)
        experts = get_module(visit.block, home)
        linears = {int(name): get_module(expert, leaf) for name, expert in experts.named_children() if name.isdigit()}
        seen = each_seen_by(list(linears.values()), visit.block, hidden, run=visit.run, look=look)
        return dict(zip(linears, filled_up(seen), strict=True))

    def _path(self, visit: Visit, site: Site) -> str:
        return site.name.removeprefix(f"{self.job.structure.block_name(visit.number)}.")

    def _rows(self, site: Site) -> Float[Tensor, " out"] | None:
        """Return the weights of a linear's rows; None if they are not wanted, or nothing ever came back to it."""
        if self.job.config.binarize.metric.rows == "none":
            return None
        calibration = self.job.config.calibration
        squares = self.job.gradient_squares[site.name].to(torch.float64)
        weights = shrunk(squares, damping=calibration.damping, shrinkage=calibration.shrinkage)
        return weights.clamp_min(_LEAST_ROW * float(weights.mean())) if bool(weights.any()) else None
