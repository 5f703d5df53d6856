"""The one training loop: of one block against its dense outputs, or of a whole model against its teacher.

    loss = sum over objectives of weight x loss, mean over a step's windows

Adam with a learning rate a group (decoupled weight decay on matrices only: codes and weights), linear warm-up, then the
schedule. A step's windows are a pure function of (seed, step), so a resumed training continues as if it had not stopped
and ends with the same bits. With N processes each takes its slice of the step's windows and gradients are averaged, so
the losses are those of one process with N times the batch.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from jaxtyping import Int
from torch import Tensor, nn

from liptt_cli.algebra.objectives.base import Objective, Trace
from liptt_cli.calibration.order import seeded_generator, step_windows
from liptt_cli.errors import ConfigError, DivergenceError
from liptt_cli.layers.checkpoint import restore, save
from liptt_cli.layers.hidden import recorded_hidden
from liptt_cli.layers.optimizer import make_optimizer, rate_share
from liptt_cli.menu.tuning import Tuning

_PATIENCE = timedelta(days=30)  # the others wait while the first process alone does all stages but the fine-tune


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
    """How it is trained; `on_step` gets each record and the seconds that are left."""

    options: Tuning
    objectives: Sequence[Objective]
    seed: int
    checkpoint: Path | None = None
    on_step: Callable[[StepRecord, float], None] | None = None
    accelerator: Accelerator | None = None

    @property
    def processes(self) -> int:
        """Return how many processes share a step."""
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def process(self) -> int:
        """Return which one this is."""
        return self.accelerator.process_index if self.accelerator else 0


def make_accelerator() -> Accelerator:
    """Return Accelerate's view of the processes that were launched, on the CPU where there is nothing else.

    Raises:
        ConfigError: if the launcher started more than Accelerate sees: each would take itself for the only one.
    """
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False), InitProcessGroupKwargs(timeout=_PATIENCE)]
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=handlers)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ConfigError(
            f"{launched} processes were launched, but Accelerate sees {accelerator.num_processes}; "
            "set ACCELERATE_USE_CPU=true, or start with `liptt compress --num-processes`"
        )
    return accelerator


def tune(lesson: Lesson, *, course: Course) -> History:
    """Train the groups of `options.train` in place; everything else in the module is frozen.

    Raises:
        ConfigError: if nothing of what `train` names is there, or there are fewer windows than asked for.
        DivergenceError: if a part of the loss, or the gradient, is not finite.
        OtherRunError: if the checkpoint is of another training.
    """
    return _Loop(lesson, course, make_optimizer(lesson.module, course.options)).run()


def finetune_model(
    student: nn.Module,
    teacher: nn.Module,
    *,
    block_path: str,
    ids: Int[Tensor, "windows tokens"],
    course: Course,
) -> History:
    """Train a causal language model end to end against its teacher, in place; raises as `tune`.

    Both run in evaluation mode: dropout has no place between a student and its teacher.

    Args:
        student: a model whose call `model(input_ids=...)` returns an object with `logits`, its linears thawed.
        teacher: the dense model.
        block_path: where both have their list of blocks, such as `model.layers`.
        ids: the windows.
        course: with an accelerator, the windows of a step are shared out among its processes.
    """
    accelerator = course.accelerator
    device = accelerator.device if accelerator else next(student.parameters()).device
    optimizer = make_optimizer(student, course.options)
    wrapped: nn.Module = student.eval()
    if accelerator:
        wrapped, optimizer = accelerator.prepare(student, optimizer)
        teacher = accelerator.prepare_model(teacher, evaluation_mode=True)
    needs = frozenset[str]().union(*(objective.needs for objective in course.objectives))
    with _traced(wrapped, student, block_path) as ours, _traced(teacher.eval(), teacher, block_path) as theirs:

        def taught(index: Tensor) -> Trace:
            with torch.no_grad():
                return theirs(ids[index].to(device), needs)

        lesson = Lesson(wrapped, ids.shape[0], lambda index: ours(ids[index].to(device), needs), taught)
        return _Loop(lesson, course, optimizer).run()


@dataclass
class _Loop:
    lesson: Lesson
    course: Course
    optimizer: torch.optim.Optimizer
    records: list[StepRecord] = field(default_factory=list)

    def run(self) -> History:
        options = self.course.options
        if options.windows is not None and options.windows > self.lesson.windows:
            raise ConfigError(f"windows: {options.windows} asked for, but there are {self.lesson.windows}")
        start = self._signs()
        first = self._restore()
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
        parts = self._gradients(step)
        norm = float(self._clip())
        for part, value in [*parts.items(), ("gradient", norm)]:
            if not math.isfinite(value):
                raise DivergenceError(
                    f"step {step}: {part} is {value}; lower the learning rate of {', '.join(options.train)}"
                )
        self.optimizer.step()
        weights = [objective.weight for objective in self.course.objectives]
        loss = sum(weight * value for weight, value in zip(weights, parts.values(), strict=True))
        return StepRecord(step, loss, parts, share, norm)

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
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
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

    def _signs(self) -> list[Tensor]:
        groups = [group for group in self.optimizer.param_groups if group["name"] == "codes"]
        return [(p.detach() >= 0) for group in groups for p in group["params"]]

    def _flip_share(self, start: Sequence[Tensor]) -> float | None:
        if not start:
            return None
        counts = torch.tensor([0.0, 0.0])
        for before, after in zip(start, self._signs(), strict=True):
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


@contextmanager
def _traced(called: nn.Module, model: nn.Module, block_path: str) -> Iterator[Callable[..., Trace]]:
    """Yield a forward pass through `called` that listens at the blocks of the `model` inside of it."""
    with recorded_hidden(model, block_path) as hidden:

        def trace(ids: Int[Tensor, "windows tokens"], needs: frozenset[str]) -> Trace:
            logits = called(input_ids=ids).logits
            labels = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], dim=1)
            if "logits" not in needs:  # every trained parameter must have a gradient for the processes to agree on
                hidden[max(hidden)] = hidden[max(hidden)] + 0 * logits.sum()
            return Trace(logits, labels, dict(hidden))

        yield trace
