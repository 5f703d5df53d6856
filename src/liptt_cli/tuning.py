"""Training: of one block against its dense outputs, or of a whole model against its teacher.

    loss = sum over objectives of weight x loss, mean over a step's windows

Adam with a learning rate a group (decoupled weight decay on matrices only: codes and weights), linear warm-up, then the
schedule; `tuning_loop` goes through the steps.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from jaxtyping import Int
from torch import Tensor, nn

from liptt_cli.algebra.objectives.base import Trace
from liptt_cli.errors import ConfigError
from liptt_cli.layers.hidden import heard_blocks, without_cache
from liptt_cli.layers.optimizer import make_optimizer
from liptt_cli.layers.recompute import recomputed_blocks
from liptt_cli.tuning_loop import Course, History, Lesson, Loop

_PATIENCE = timedelta(days=30)  # the others wait while the first process alone does all stages but the fine-tune


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
    course = course.over(lesson.windows)
    return Loop(lesson, course, make_optimizer(lesson.module, course.options)).run()


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
    accelerator, course = course.accelerator, course.over(len(ids))
    device = accelerator.device if accelerator else next(student.parameters()).device
    optimizer = make_optimizer(student, course.options)
    wrapped: nn.Module = student.eval()
    if accelerator:
        wrapped, optimizer = accelerator.prepare(student, optimizer)
        teacher = accelerator.prepare_model(teacher, evaluation_mode=True)
    needs = frozenset[str]().union(*(objective.needs for objective in course.objectives))
    if "block" in needs and accelerator and accelerator.distributed_type == DistributedType.FSDP:
        raise ConfigError("lipschitz: only estimator retention works under FSDP, where blocks cannot be run alone")
    memory = recomputed_blocks(student, block_path) if course.recompute else nullcontext()
    with (
        memory,
        _traced(wrapped, student, block_path) as ours,
        _traced(teacher.eval(), teacher, block_path) as theirs,
    ):

        def taught(index: Tensor) -> Trace:
            with torch.no_grad():
                return theirs(ids[index].to(device), needs)

        lesson = Lesson(wrapped, ids.shape[0], lambda index: ours(ids[index].to(device), needs), taught)
        return Loop(lesson, course, optimizer).run()


@contextmanager
def _traced(called: nn.Module, model: nn.Module, block_path: str) -> Iterator[Callable[..., Trace]]:
    """Yield a forward pass through `called` that listens at the blocks of the `model` inside of it."""
    with heard_blocks(model, block_path) as heard:

        def trace(ids: Int[Tensor, "windows tokens"], needs: frozenset[str]) -> Trace:
            logits = called(input_ids=ids, **without_cache(model)).logits
            labels = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], dim=1)
            if "logits" in needs:
                return Trace(logits, labels, dict(heard.hidden), heard.run)
            tie = 0 * logits.sum()  # every trained parameter must have a gradient for the processes to agree on
            hidden = heard.hidden | {max(heard.hidden): heard.hidden[max(heard.hidden)] + tie}
            return Trace(logits, labels, hidden, lambda b, h: heard.run(b, h) + tie)

        yield trace
