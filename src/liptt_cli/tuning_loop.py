"""The training loop: steps of Adam over batches of windows, with records, checkpoints and a resumed end of equal bits.

A step's windows are a pure function of (seed, step), so a resumed training continues as if it had not stopped. With N
processes each takes its slice of the step's windows and gradients are averaged, so the losses are those of one process
with N times the batch. After each step the parts of trainable weights are told how far the training is (`advance`).
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from jaxtyping import Int
from torch import Tensor, nn

from liptt_cli.algebra.objectives.base import Objective, Trace
from liptt_cli.calibration.order import seeded_generator, step_windows
from liptt_cli.errors import ConfigError, DivergenceError
from liptt_cli.layers.checkpoint import restore, save
from liptt_cli.layers.latents import GridLatent
from liptt_cli.layers.optimizer import rate_share
from liptt_cli.layers.parts import Part
from liptt_cli.menu.tuning import Tuning


@dataclass(frozen=True)
class StepRecord:
    """One step: its loss before the update, the unweighted parts, and the share of the learning rate used."""

    step: int
    loss: float
    parts: dict[str, float]
    rate_share: float
    gradient_norm: float


@dataclass(frozen=True)
class History:
    """A whole training; `flip_share` is the share of trained codes that ended elsewhere, None without any."""

    records: list[StepRecord]
    flip_share: float | None


@dataclass(frozen=True)
class Lesson:
    """What is trained: parameters of `module`, on `windows` windows that two callables take by number."""

    module: nn.Module
    windows: int
    student: Callable[[Int[Tensor, " batch"]], Trace]
    teacher: Callable[[Int[Tensor, " batch"]], Trace]


@dataclass(frozen=True)
class Course:
    """How it is trained.

    `on_step` gets each record and the seconds that are left. `recompute` keeps only the inputs of a model's blocks for
    the backward pass and runs each block once more there.
    """

    options: Tuning
    objectives: Sequence[Objective]
    seed: int
    checkpoint: Path | None = None
    on_step: Callable[[StepRecord, float], None] | None = None
    accelerator: Accelerator | None = None
    recompute: bool = False

    def over(self, windows: int) -> "Course":
        """Return the course with its epochs over so many windows counted in steps."""
        return replace(self, options=self.options.in_steps(windows, processes=self.processes))

    @property
    def processes(self) -> int:
        """Return how many processes share a step."""
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def process(self) -> int:
        """Return which one this is."""
        return self.accelerator.process_index if self.accelerator else 0


@dataclass
class Loop:
    """One training: its lesson, its course with the epochs counted in steps, and the optimizer of what moves."""

    lesson: Lesson
    course: Course
    optimizer: torch.optim.Optimizer
    records: list[StepRecord] = field(default_factory=list)

    @cached_property
    def _parts(self) -> list[Part]:
        return [module for module in self.lesson.module.modules() if isinstance(module, Part)]

    @cached_property
    def _unoptimised(self) -> list[nn.Parameter]:
        """What trains without Adam: signs that flip."""
        known = {p for group in self.optimizer.param_groups for p in group["params"]}
        return [p for p in self.lesson.module.parameters() if p.requires_grad and p not in known]

    def run(self) -> History:
        """Train, from a checkpoint where there is one."""
        options = self.course.options
        if options.windows is not None and options.windows > self.lesson.windows:
            raise ConfigError(f"windows: {options.windows} asked for, but there are {self.lesson.windows}")
        start = self._codes()
        first = self._restore()
        self._advance(first)
        began = time.monotonic()
        for step in range(first, options.steps):
            self.records.append(self._step(step))
            self._save(step + 1)
            if self.course.on_step and self.course.process == 0:
                pace = (time.monotonic() - began) / (step + 1 - first)
                self.course.on_step(self.records[-1], pace * (options.steps - step - 1))
        return History(self.records, self._flip_share(start))

    def _step(self, step: int) -> StepRecord:
        options = self.course.options
        share = rate_share(step, options)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * share
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in self._unoptimised:
            parameter.grad = None
        parts = self._gradients(step)
        norm = float(self._clip())
        for part, value in [*parts.items(), ("gradient", norm)]:
            if not math.isfinite(value):
                raise DivergenceError(
                    f"step {step}: {part} is {value}; lower the learning rate of {', '.join(options.train)}"
                )
        self.optimizer.step()
        self._advance(step + 1)
        weights = [objective.weight for objective in self.course.objectives]
        loss = sum(weight * value for weight, value in zip(weights, parts.values(), strict=True))
        return StepRecord(step, loss, parts, share, norm)

    def _advance(self, steps: int) -> None:
        for part in self._parts:
            part.advance(steps / self.course.options.steps)

    def _gradients(self, step: int) -> dict[str, float]:
        """Add up the gradients of a step's batches, and return the parts' means over batches and processes."""
        course, options = self.course, self.course.options
        mine = self._batches(step)
        generator = seeded_generator(course.seed, "step", step)
        totals = torch.zeros(len(course.objectives))
        for number, index in enumerate(mine):
            with self._unsynchronised() if number + 1 < len(mine) else nullcontext():
                student, teacher = self.lesson.student(index), self.lesson.teacher(index)
                parts = [_part(objective, student, teacher, generator) for objective in course.objectives]
                weighted = [o.weight * part for o, part in zip(course.objectives, parts, strict=True) if o.weight]
                torch.autograd.backward(torch.stack(weighted).sum() / options.accumulate)
            totals += torch.stack([part.detach().float().cpu() for part in parts])
        means = self._mean(totals / options.accumulate).tolist()
        return dict(zip(_part_names(course.objectives), means, strict=True))

    def _batches(self, step: int) -> list[Tensor]:
        """Return this process's slice of the step's windows, one batch a forward pass."""
        course, options = self.course, self.course.options
        batch = options.batch_windows * options.accumulate * course.processes
        windows = options.windows or self.lesson.windows
        order = step_windows(step, windows=windows, batch=batch, seed=course.seed)
        return list(order.view(options.accumulate, course.processes, -1)[:, course.process])

    def _mean(self, values: Tensor) -> Tensor:
        if self.course.accelerator is None:
            return values
        moved = values.to(self.course.accelerator.device)
        return cast(Tensor, self.course.accelerator.reduce(moved, reduction="mean")).cpu()

    def _unsynchronised(self) -> AbstractContextManager[Any]:
        accelerator = self.course.accelerator
        return accelerator.no_sync(self.lesson.module) if accelerator else nullcontext()

    def _clip(self) -> Tensor:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]] + self._unoptimised
        limit = self.course.options.clip_norm or math.inf
        if self.course.accelerator:
            return cast(Tensor, self.course.accelerator.clip_grad_norm_(parameters, limit))
        return nn.utils.clip_grad_norm_(parameters, limit)

    def _training(self) -> str:
        """Return what makes two trainings one: the options, the seed, the windows and the processes."""
        course = self.course
        facts = (course.options.model_dump_json(), course.seed, self.lesson.windows, course.processes)
        return blake2b(repr(facts).encode(), digest_size=8).hexdigest()

    def _restore(self) -> int:
        path = self.course.checkpoint
        if path is None or not path.exists():
            return 0
        notes = restore(path, self.lesson.module, _plain(self.optimizer), training=self._training())
        self.records = [StepRecord(**record) for record in notes["records"]]
        return len(self.records)

    def _save(self, steps: int) -> None:
        options, path = self.course.options, self.course.checkpoint
        if path is None or (steps % options.checkpoint_steps and steps != options.steps):
            return
        notes = {"training": self._training(), "records": [asdict(record) for record in self.records]}
        write = self.course.process == 0
        save(path, self.lesson.module, _plain(self.optimizer), notes=notes, write=write)

    def _codes(self) -> list[Tensor]:
        """Return all codes that train; under sharding only signs, which a shard of the latents tells."""
        accelerator = self.course.accelerator
        sharded = accelerator is not None and accelerator.distributed_type == DistributedType.FSDP
        grids = [module for module in self.lesson.module.modules() if isinstance(module, GridLatent)]
        found = [grid.now(entrywise=sharded) for grid in grids if any(p.requires_grad for p in grid.codes.parameters())]
        return [codes for codes in found if codes is not None]

    def _flip_share(self, start: Sequence[Tensor]) -> float | None:
        if not start:
            return None
        counts = torch.tensor([0.0, 0.0])
        for before, after in zip(start, self._codes(), strict=True):
            counts += torch.tensor([float((before != after).sum()), float(before.numel())])
        flipped, codes = self._mean(counts).tolist()
        return float(flipped / codes)


def _part_names(objectives: Sequence[Objective]) -> list[str]:
    """Return the kinds, those that come twice with their number."""
    kinds = [objective.kind for objective in objectives]
    return [kind if kinds.count(kind) == 1 else f"{kind} {number}" for number, kind in enumerate(kinds)]


def _part(objective: Objective, student: Trace, teacher: Trace, generator: torch.Generator) -> Tensor:
    """Return an objective's loss; one of weight 0 is a diagnostic, without gradient."""
    with nullcontext() if objective.weight else torch.no_grad():
        return objective.loss(student, teacher, generator=generator)


def _plain(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    return cast(torch.optim.Optimizer, getattr(optimizer, "optimizer", optimizer))
