"""Stage 3, binarize: the walk through the blocks, each weight through the equation, each block tuned.

    for each group of linears that share an input: what they see -> metric -> compress -> swap
    then, if asked: train the block's codes and scales against the dense block's output, and freeze

Each block leaves one file. A resumed stage goes on with the block that was broken off.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from liptt_cli.algebra.compose import LinearPlan, compress
from liptt_cli.algebra.metric import Metric, metric
from liptt_cli.algebra.objectives.base import Objective, Trace
from liptt_cli.calibration.collect import seen_by
from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.catalogue import codec_of, factor_of, objective_of, solver_of
from liptt_cli.errors import LipttError
from liptt_cli.formats.base import Encoded
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.forms.chain import ChainForm
from liptt_cli.layers.surgery import get_module, replace_module, thawed, trained_outside
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.tuning import Tuning
from liptt_cli.models.blocks import Site
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.packing.block_file import BlockResult, write_block
from liptt_cli.run_directory import write_file, write_json
from liptt_cli.stages.job import Job, block_file
from liptt_cli.tuning import Course, Lesson, tune


def run(job: Job) -> dict[str, Any]:
    """Compress all blocks and return each linear's error and seconds."""
    model = StreamedModel(job.source, dtype=job.dtype, trust_remote_code=job.config.load.trust_remote_code)
    folder = job.run.stage("binarize")
    streams = Streams(folder / "streams")
    flows = job.config.binarize.metric.cols != "none" or job.config.binarize.codes.steps > 0
    first = _first_open_block(job, streams, flows=flows)
    job.reporter.begin("binarize", total=len([s for s in job.structure.sites if s.block >= first]))
    worker = _Worker(job)
    itinerary = Itinerary(first, job.config.calibration.batch_windows, flows)
    walk(model, job.windows, streams=streams, itinerary=itinerary, work=worker.visit)
    streams.drop(job.structure.blocks)
    return _facts(job)


def _first_open_block(job: Job, streams: Streams, *, flows: bool) -> int:
    """Return the block to go on with: behind the whole ones, where what enters it is still there."""
    folder = job.run.stage("binarize")
    whole = 0
    while block_file(folder, whole).exists():
        whole += 1
    if not flows or whole == job.structure.blocks:
        return whole
    return next((block for block in range(whole, 0, -1) if streams.holds(block)), 0)


def _facts(job: Job) -> dict[str, Any]:
    folder = job.run.stage("binarize")
    linears: dict[str, Any] = {}
    blocks = []
    for path in sorted(folder.glob("block-*.json")):
        found = json.loads(path.read_text(encoding="utf8"))
        linears |= found["linears"]
        blocks.append(found["tuning"])
    return {"linears": linears, "tuning": blocks}


@dataclass
class _Worker:
    job: Job
    results: dict[str, Encoded] = field(default_factory=dict)
    sources: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def visit(self, visit: Visit) -> None:
        """Compress one block in place and write what came of it."""
        self.results, self.sources, self.facts = {}, {}, {}
        groups = self.job.structure.groups(visit.number)
        before = {}
        if self.job.config.binarize.inputs == "clean":
            before = {group: self._metric(visit, group) for group in groups}
        for group in groups:
            cost = before.get(group) or self._metric(visit, group)
            for site in group:
                self._linear(visit, site, cost)
        tuning, changed = self._tuned(visit)
        folder = self.job.run.stage("binarize")
        write_json(folder / f"block-{visit.number:03d}.json", {"linears": self.facts, "tuning": tuning})
        result = BlockResult(self.results, self.sources if self._keeps_sources else {}, changed)
        write_file(block_file(folder, visit.number), lambda path: write_block(path, result))

    @property
    def _keeps_sources(self) -> bool:
        finetune = self.job.config.finetune
        return finetune.steps > 0 and "codes" in finetune.train and finetune.latent.source == "solver"

    def _metric(self, visit: Visit, group: Sequence[Site]) -> Metric:
        """Return what errors cost in the linears of a group, by the block as it is now."""
        options, calibration = self.job.config.binarize, self.job.config.calibration
        kind = options.metric.cols
        hidden = visit.clean if options.inputs == "clean" else visit.prefix
        if kind == "none" or hidden is None:
            return Metric()
        linear = get_module(visit.block, self._inside(visit, group[0]))
        seen = seen_by(linear, visit.block, hidden, run=visit.run, whole=kind == "full")
        return metric(seen, kind, damping=calibration.damping, shrinkage=calibration.shrinkage)

    def _linear(self, visit: Visit, site: Site, cost: Metric) -> None:
        began = time.monotonic()
        path = self._inside(visit, site)
        linear = get_module(visit.block, path)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{site.name} is a {type(linear).__name__}, and was a linear when the model was described")
        try:
            solved = compress(
                linear.weight.detach().float(),
                plan=self._plan(site),
                metric=cost,
                generator=self.job.generator(site.name),
            )
        except LipttError as error:
            raise type(error)(f"{site.name}: {error}") from error
        self.results[site.name] = solved.value
        if solved.sources is not None:
            self.sources[site.name] = solved.sources
        tuning = self.job.config.binarize.codes
        module = thaw(
            solved.value, options=tuning.latent.model_copy(update={"kind": "none"}), train=[], bias=linear.bias
        )
        replace_module(visit.block, path, module)
        self._report(site, error=(solved.error, solved.plain_error), seconds=time.monotonic() - began)

    def _report(self, site: Site, *, error: tuple[float, float], seconds: float) -> None:
        form = self.job.forms[site.name]
        ranks = form.ranks if isinstance(form, ChainForm) else ()
        self.facts[site.name] = {
            "error": error[0],
            "plain_error": error[1],
            "bits_per_weight": bits_per_weight(form),
            "ranks": list(ranks),
            "seconds": seconds,
        }
        told = f", rank {'x'.join(map(str, ranks))}" if ranks else ""
        self.job.reporter.advance(
            f"{site.name}: error {error[0]:.4f}{told}, {bits_per_weight(form):.3f} bits, {seconds:.1f} s"
        )
        self.job.run.event("linear", linear=site.name, **self.facts[site.name])

    def _plan(self, site: Site) -> LinearPlan:
        config = self.job.config
        return LinearPlan(
            form=self.job.forms[site.name],
            factor=factor_of(config.decompose.factor),
            codec=codec_of(config.binarize.codec),
            solver=solver_of(config.binarize.solver),
            refit=config.binarize.refit,
            scale_repair=config.binarize.scale_repair,
        )

    def _inside(self, visit: Visit, site: Site) -> str:
        return site.name.removeprefix(f"{self.job.structure.block_name(visit.number)}.")

    def _tuned(self, visit: Visit) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
        """Train the block's codes against its dense output; return the history and the tensors that moved."""
        options = self.job.config.binarize.codes
        if not options.steps or not self.results or visit.prefix is None or visit.target is None:
            return None, {}
        prefix = self.job.structure.block_name(visit.number)
        inside = {name.removeprefix(f"{prefix}."): value for name, value in self.results.items()}
        sources = {name.removeprefix(f"{prefix}."): value for name, value in self.sources.items()}
        modules = thawed(visit.block, inside, tuning=options, sources=sources)
        history = tune(
            _lesson(visit), course=Course(options, _objectives(options), self.job.config.seed + visit.number)
        )
        for path, module in modules.items():
            self.results[f"{prefix}.{path}"] = module.freeze()
        first, last = history.records[0].loss, history.records[-1].loss
        self.job.run.event("block tuned", block=visit.number, first=first, last=last)
        facts = {"first": first, "last": last, "flip_share": history.flip_share}
        return facts, trained_outside(visit.block, modules, prefix=f"{prefix}.")


def _lesson(visit: Visit) -> Lesson:
    """Return the block's training: the inputs of the compressed prefix, the outputs of the dense model."""
    clean, prefix, target = visit.clean, visit.prefix, visit.target
    if clean is None or prefix is None or target is None:
        raise ValueError("a block is tuned on hidden states, but this walk has none")

    def student(index: Tensor) -> Trace:
        hidden = prefix[index]
        return Trace(hidden={-1: hidden, 0: visit.run.on(visit.block, hidden)})

    def teacher(index: Tensor) -> Trace:
        return Trace(hidden={-1: clean[index], 0: target[index]})

    return Lesson(visit.block, len(prefix), student, teacher)


def _objectives(options: Tuning) -> list[Objective]:
    return [objective_of(each) for each in options.objectives]
