"""What a training of the whole model tells while it runs, and what it leaves of each block."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from liptt_cli.formats.base import Stored
from liptt_cli.layers.surgery import trained_outside
from liptt_cli.packing.block_file import BlockResult, write_block
from liptt_cli.run_directory import write_file
from liptt_cli.stages.job import OUTSIDE, Job, Reporter, block_file
from liptt_cli.tuning_loop import StepRecord


def progress(reporter: Reporter) -> Callable[[StepRecord, float], None]:
    """Return what tells of each step: the loss, its parts, and the seconds left."""

    def on_step(record: StepRecord, seconds_left: float) -> None:
        parts = ", ".join(f"{name} {value:.4g}" for name, value in record.parts.items())
        reporter.advance(f"step {record.step + 1}: loss {record.loss:.4f} ({parts}), {seconds_left:.0f} s left")

    return on_step


def write_trained(job: Job, stage: str, student: nn.Module, trained: Mapping[str, Stored]) -> None:
    """Write a file a block into a stage's folder, and one for what changed outside of the blocks."""
    folder = job.run.stage(stage)
    changed = trained_outside(student, list(trained))
    for number in range(job.structure.blocks):
        start = f"{job.structure.block_name(number)}."
        values = {name: value for name, value in trained.items() if name.startswith(start)}
        inside = {name: changed.pop(name) for name in list(changed) if name.startswith(start)}
        result = BlockResult(values, {}, inside)
        write_file(block_file(folder, number), partial(write_block, result=result))
    outside = BlockResult({}, {}, changed)
    write_file(folder / OUTSIDE, partial(write_block, result=outside))
