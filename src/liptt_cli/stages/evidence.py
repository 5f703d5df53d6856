"""A part of stage 2: each linear's error at a few sizes, by short fits on the dense model's inputs.

    for each block of the dense model, for each linear: metric -> fit the forms of `at_bits` -> error; then its weight

The recipe's own codec, metric and solver, with `iterations` sweeps. What an error counts, by `weight_by`, is the cost
of the middle form of the recipe's own factor, E being its error and C the metric's columns:

    none         its relative error, all linears alike
    output       tr(E C E^T) over the energy of the block's output, a token
    gradient     sum_i g_i (E C E^T)_ii, g the mean squared gradients of the outputs: the loss's second order, doubled
    divergence   the divergence of the model's next tokens, with this linear alone replaced (`divergence.py`)

`evidence.json` is written behind each block, so a run that is killed loses one.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.errors import ConfigError, LipttError
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.layers.surgery import get_module
from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.menu.solvers import ColumnSweep, Direct
from liptt_cli.models.blocks import Site
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.planning.evidence import (
    FILE,
    Evidence,
    LinearEvidence,
    Point,
    candidates_of,
    ladders_of,
    middle,
    points_of,
    read_evidence,
    recipe_of,
)
from liptt_cli.run_directory import write_json
from liptt_cli.stages.cost import Costs
from liptt_cli.stages.divergence import Divergence
from liptt_cli.stages.fit import linear_plan
from liptt_cli.stages.job import Job


def measure_evidence(job: Job) -> Evidence:
    """Return the evidence of all selected linears, measured as far as it is not there yet.

    Raises:
        ConfigError: if the configuration has no knapsack, or its rates are not in bits per weight.
    """
    path, allocator = job.run.path / FILE, job.config.decompose.allocator
    if not isinstance(allocator, Knapsack) or allocator.at_unit != "bits":
        raise ConfigError(
            "decompose.allocator: evidence is for a knapsack with at_unit: bits (`with_rates` makes it so)"
        )
    began = Evidence(job.source.name, recipe_of(job.config), {})
    evidence = read_evidence(path) if path.exists() else began
    if all(site.name in evidence.linears for site in job.structure.sites):
        return evidence
    model = StreamedModel(job.source, dtype=job.dtype, trust_remote_code=job.config.load.trust_remote_code)
    streams = Streams(job.run.stage("decompose") / "evidence-streams")
    flows = job.config.binarize.metric.cols != "none" or allocator.weight_by == "divergence"
    worker = _Worker(job, allocator, Divergence(model, job.windows, allocator.windows), evidence)
    first = next(site.block for site in job.structure.sites if site.name not in evidence.linears)
    if flows and not streams.holds_clean(first):
        first = 0
    job.reporter.begin("evidence", total=_steps(job, allocator, evidence))
    itinerary = Itinerary(first, job.config.calibration.batch_windows, flows, dense=True)
    walk(model, job.windows, streams=streams, itinerary=itinerary, work=worker.visit)
    streams.drop(job.structure.blocks)
    return worker.evidence


@dataclass(frozen=True)
class _Fits:
    """A linear's points, the weight as its middle point stores it, and what that is off, in a metric of columns."""

    points: tuple[Point, ...]
    stored: Float[Tensor, "out in"]
    error: Float[Tensor, "out in"]
    metric: Metric


@dataclass
class _Worker:
    job: Job
    allocator: Knapsack
    divergence: Divergence
    evidence: Evidence

    def visit(self, visit: Visit) -> None:
        """Measure the linears of one block, unless they are there, and keep what came of it."""
        groups = self.job.structure.groups(visit.number)
        sites = [site for group in groups for site in group if site.name not in self.evidence.linears]
        if not sites:
            return
        costs = Costs(self.job)
        metrics = costs.of(visit, *groups)
        fits = {site.name: self._fits(visit, site, metrics[site.name]) for site in sites}
        weights = self._weights(visit, {name: found for name, found in fits.items() if found is not None})
        weights = {name: weight * self._share(costs.tokens.get(name)) for name, weight in weights.items()}
        found = {}
        for site in sites:
            points = fit.points if (fit := fits[site.name]) is not None else ()
            found[site.name] = LinearEvidence(site.shape, site.block, site.group, points, weights.get(site.name, 0.0))
        self.evidence = replace(self.evidence, linears={**self.evidence.linears, **found})
        write_json(self.job.run.path / FILE, self.evidence.to_json())

    def _fits(self, visit: Visit, site: Site, metric: Metric) -> _Fits | None:
        """Fit a linear in all its forms; None if there is but one."""
        began, weight = time.monotonic(), self._linear(visit, site.name).weight.detach().float()
        wanted = points_of(self.allocator.at_bits, ladders_of(self.job.config, site.shape))
        configs = [_shortened(each, self.allocator) for each in candidates_of(self.job.config)]
        errors, stored, central = [], weight, middle(sum(candidate == 0 for candidate, _ in wanted))
        for number, (candidate, form) in enumerate(wanted):
            plan, generator = linear_plan(configs[candidate], form), self.job.generator(site.name)
            try:
                solved = compress(weight, plan=plan, metric=metric, generator=generator)
            except LipttError as error:
                raise type(error)(f"{site.name}: {error}") from error
            errors.append(solved.error)
            if number == central:
                stored = solved.value.dense(weight.dtype)
        points = tuple(Point(*each, error) for each, error in zip(wanted, errors, strict=True))
        told = ", ".join(f"{point.error:.4f} at {bits_per_weight(point.form):.2f}" for point in points)
        self.job.reporter.advance(f"{site.name}: error {told or 'not asked for'}, {time.monotonic() - began:.1f} s")
        columns = Metric(cols=None if metric.cols is None else metric.cols.to(weight.dtype))
        return _Fits(points, stored, weight - stored, columns) if points else None

    def _weights(self, visit: Visit, fits: Mapping[str, _Fits]) -> dict[str, float]:
        """Return what the error of each linear's middle form counts."""
        kind = self.allocator.weight_by
        if kind == "divergence":
            paths = {name: self._inside(visit, name) for name in fits}
            nats = self.divergence.of(visit, {paths[name]: found.stored for name, found in fits.items()})
            self.job.reporter.advance(f"block {visit.number}: {sum(nats.values()):.4f} nats, one linear at a time")
            return {name: nats[path] for name, path in paths.items()}
        if kind == "gradient":
            squares = self.job.gradient_squares
            return {
                name: float((squares[name] * found.metric.error(found.error)).sum()) for name, found in fits.items()
            }
        if kind == "output" and visit.target is not None:
            energy = float(visit.target.float().square().sum(-1).mean())
            return {name: float(found.metric.error(found.error).sum()) / energy for name, found in fits.items()}
        own = {name: middle(sum(point.candidate == 0 for point in found.points)) for name, found in fits.items()}
        return {name: found.points[own[name]].error for name, found in fits.items()}

    def _share(self, tokens: int | None) -> float:
        """Return the share of all tokens that an expert's error meets, where errors are counted for a token of its."""
        counts = self.allocator.weight_by in ("gradient", "output")
        return tokens / self.job.windows.numel() if counts and tokens is not None else 1.0

    def _linear(self, visit: Visit, name: str) -> nn.Linear:
        linear = get_module(visit.block, self._inside(visit, name))
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{name} is a {type(linear).__name__}, and was a linear when the model was described")
        return linear

    def _inside(self, visit: Visit, name: str) -> str:
        return name.removeprefix(f"{self.job.structure.block_name(visit.number)}.")


def _shortened(config: RunConfig, allocator: Knapsack) -> RunConfig:
    """Return the configuration with as few sweeps of its solver as the evidence asks for."""
    solver = config.binarize.solver
    if isinstance(solver, Direct | ColumnSweep):
        return config
    short = solver.model_copy(update={"iterations": allocator.iterations})
    return config.model_copy(update={"binarize": config.binarize.model_copy(update={"solver": short})})


def _steps(job: Job, allocator: Knapsack, evidence: Evidence) -> int:
    left = [site for site in job.structure.sites if site.name not in evidence.linears]
    return len(left) + (len({site.block for site in left}) if allocator.weight_by == "divergence" else 0)
