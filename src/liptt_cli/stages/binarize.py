"""Stage 3, binarize: the walk through the blocks, each weight through the equation, each block tuned.

    for each turn of a block's linears (`turns`): what they see -> metric -> compress -> swap
    if asked (`block_tuning`): what is still dense trained before a turn; codes and scales behind a linear or the block

Each block leaves one file. A resumed stage goes on with the block that was broken off.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from liptt_cli.algebra.compose import Solved, compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.calibration.streams import Streams
from liptt_cli.calibration.walk import Itinerary, Visit, walk
from liptt_cli.errors import LipttError
from liptt_cli.formats.around import put_around
from liptt_cli.formats.base import Stored
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import Form, bits_per_weight
from liptt_cli.forms.sum import inner_ranks
from liptt_cli.layers.surgery import get_module
from liptt_cli.models.blocks import Site
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.packing.block_file import BlockResult, write_block
from liptt_cli.run_directory import write_file, write_json
from liptt_cli.stages.block_tuning import BlockTuning
from liptt_cli.stages.cost import Costs
from liptt_cli.stages.fit import linear_plan
from liptt_cli.stages.heal import healed_weight
from liptt_cli.stages.job import Job, block_file
from liptt_cli.stages.tables import round_tables
from liptt_cli.stages.thin_experts import thin_experts
from liptt_cli.stages.turns import alike, turns

LOGGER = logging.getLogger("liptt_cli")


def run(job: Job) -> dict[str, Any]:
    """Compress all blocks and return each linear's error and seconds."""
    model = StreamedModel(job.source, dtype=job.dtype, trust_remote_code=job.config.load.trust_remote_code)
    folder = job.run.stage("binarize")
    streams = Streams(folder / "streams")
    options = job.config.binarize
    flows = options.metric.cols != "none" or options.codes.trains or options.rest.trains
    first = _first_open_block(job, streams, flows=flows)
    job.reporter.begin("binarize", total=len(job.tables) + len([s for s in job.structure.sites if s.block >= first]))
    tables = round_tables(job)
    worker = _Worker(job)
    itinerary = Itinerary(first, job.config.calibration.batch_windows, flows)
    walk(model, job.windows, streams=streams, itinerary=itinerary, work=worker.visit)
    streams.drop(job.structure.blocks)
    return {**_facts(job), "tables": tables}


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
    tuning: list[dict[str, Any]] = []
    for path in sorted(folder.glob("block-*.json")):
        found = json.loads(path.read_text(encoding="utf8"))
        linears |= found["linears"]
        tuning += found["tuning"]
    experts = thin_experts(job.structure, linears)
    if experts is not None:
        LOGGER.info("%s", experts["told"])
    return {"linears": linears, "tuning": tuning, "experts": experts}


@dataclass
class _Worker:
    job: Job
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def visit(self, visit: Visit) -> None:
        """Compress one block in place and write what came of it."""
        self.facts = {}
        self._take_healed(visit)
        block, costs = BlockTuning(self.job, visit), _Known(self.job, visit, Costs(self.job, self.tokens))
        order = turns(self.job.structure, visit.number, order=self.job.config.binarize.order)
        for number, turn in enumerate(order):
            if block.train_rest(turn):
                costs.keep(order[number:], behind=block.unmoved)
            known = costs.of(turn)
            for site in turn:
                self._linear(block, site, known[site.name])
            costs.keep(order[number + 1 :], behind=block.unmoved if block.trains_linears else costs.unmoved_by(turn))
        block.train_block()
        folder = self.job.run.stage("binarize")
        write_json(folder / f"block-{visit.number:03d}.json", {"linears": self.facts, "tuning": block.records})
        result = BlockResult(block.values, block.sources if self._keeps_sources else {}, block.changed)
        write_file(block_file(folder, visit.number), lambda path: write_block(path, result))

    def _take_healed(self, visit: Visit) -> None:
        """Put healed weights in the place of the dense ones; the block's target is the dense block's still."""
        for site in (site for site in self.job.structure.sites if site.block == visit.number):
            healed = healed_weight(self.job, site.name)
            if healed is not None:
                path = site.name.removeprefix(f"{self.job.structure.block_name(visit.number)}.")
                weight = get_module(visit.block, path).get_parameter("weight")
                weight.data.copy_(healed)

    @property
    def _keeps_sources(self) -> bool:
        return self.job.config.finetune.takes_sources

    def _linear(self, block: BlockTuning, site: Site, cost: Metric) -> None:
        began = time.monotonic()
        linear, form = block.linear(site), self.job.forms[site.name]
        try:
            solved = compress(
                linear.weight.detach().float(),
                plan=linear_plan(self.job.config, form),
                metric=cost,
                generator=self.job.generator(site.name),
            )
        except LipttError as error:
            raise type(error)(f"{site.name}: {error}") from error
        value: Stored = solved.value
        if isinstance(form, AroundForm):
            value = put_around(solved.value, form, generator=self.job.generator(f"{site.name}.around"))
        weight = "tuned" if block.has_rest_tuned else "dense"
        self._report(site, solved, value.form, weight=weight, seconds=time.monotonic() - began)
        block.swap(site, value, solved.sources)

    def _report(self, site: Site, solved: Solved, form: Form, *, weight: str, seconds: float) -> None:
        """Note what came of a linear; its errors are against the `weight` dense, or tuned as rest."""
        ranks = inner_ranks(form)
        self.facts[site.name] = {
            "error": solved.error,
            "plain_error": solved.plain_error,
            "weight": weight,
            "bits_per_weight": bits_per_weight(form),
            "ranks": list(ranks),
            "seconds": seconds,
            **({"tokens": self.tokens[site.name]} if site.name in self.tokens else {}),
            **({"damping": solved.damping} if solved.damping else {}),
        }
        told = f", rank {'x'.join(map(str, ranks))}" if ranks else ""
        if solved.damping:
            told += f", damped by {solved.damping:g} of the inputs' mean square"
        self.job.reporter.advance(
            f"{site.name}: error {solved.error:.4f}{told}, {bits_per_weight(form):.3f} bits, {seconds:.1f} s"
        )
        self.job.run.event("linear", linear=site.name, **self.facts[site.name])


@dataclass
class _Known:
    """What errors cost in a block's linears, measured once for those of one input until something before them moves."""

    job: Job
    visit: Visit
    costs: Costs
    found: dict[int, dict[str, Metric]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Measure all now if the inputs are those of the dense block."""
        if self._fixed:
            for group in self.job.structure.groups(self.visit.number):
                self.of(group)

    def of(self, turn: Sequence[Site]) -> dict[str, Metric]:
        """Return the metrics of the linears of a turn, and of others, by their names."""
        number = turn[0].group
        if number not in self.found:
            groups = alike(self.job.structure, turn[0])
            metrics = self.costs.of(self.visit, *groups)
            self.found |= {group[0].group: {site.name: metrics[site.name] for site in group} for group in groups}
        return self.found[number]

    def unmoved_by(self, turn: Sequence[Site]) -> int:
        """Return the last group whose inputs a turn's compression does not move."""
        return alike(self.job.structure, turn[0])[-1][0].group

    def keep(self, turns: Sequence[Sequence[Site]], *, behind: int) -> None:
        """Forget all but what the turns to come can use: nothing moved before the groups up to `behind`."""
        wanted = {turn[0].group for turn in turns if self._fixed or turn[0].group <= behind}
        self.found = {number: each for number, each in self.found.items() if number in wanted}

    @property
    def _fixed(self) -> bool:
        return self.job.config.binarize.inputs == "clean"
