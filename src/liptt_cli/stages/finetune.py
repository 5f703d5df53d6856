"""Stage 4, finetune: all blocks thawed and trained together, once, against the dense model ("one step").

The only stage that runs on several processes, through Accelerate. Writes the blocks again.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from liptt_cli.catalogue import objective_of
from liptt_cli.formats.base import Encoded
from liptt_cli.layers.surgery import thawed, trained_outside
from liptt_cli.packing.block_file import BlockResult, read_sources, write_block
from liptt_cli.packing.overlay import Overlay
from liptt_cli.run_directory import write_file
from liptt_cli.stages.assemble import compressed_model, dense_model
from liptt_cli.stages.job import OUTSIDE, Job, block_file
from liptt_cli.tuning import Course, History, StepRecord, finetune_model


def run(job: Job, accelerator: Accelerator) -> dict[str, Any]:
    """Train the compressed model end to end; every process takes part, the first one writes."""
    options = job.config.finetune
    if options.steps == 0:
        return {"steps": 0}
    if accelerator.is_main_process:
        job.reporter.begin("finetune", total=options.steps)
    files = job.block_files("binarize")
    overlay = Overlay.read(files)
    student = compressed_model(job, files)
    values = {name: overlay.value(name) for name in overlay.forms}
    modules = thawed(student, values, tuning=options, sources=read_sources(files))
    history = finetune_model(
        student,
        dense_model(job),
        block_path=job.structure.block_path,
        ids=job.windows,
        course=_course(job, accelerator),
    )
    if accelerator.is_main_process:
        _write(job, student, {name: module.freeze() for name, module in modules.items()})
        _checkpoint(job).unlink(missing_ok=True)
    return _facts(history, accelerator)


def _course(job: Job, accelerator: Accelerator) -> Course:
    def on_step(record: StepRecord, seconds_left: float) -> None:
        parts = ", ".join(f"{name} {value:.4g}" for name, value in record.parts.items())
        job.reporter.advance(f"step {record.step + 1}: loss {record.loss:.4f} ({parts}), {seconds_left:.0f} s left")

    return Course(
        options=job.config.finetune,
        objectives=[objective_of(each) for each in job.config.finetune.objectives],
        seed=job.config.seed,
        checkpoint=_checkpoint(job),
        on_step=on_step,
        accelerator=accelerator,
    )


def _checkpoint(job: Job) -> Path:
    return job.run.stage("finetune") / "checkpoint.pt"


def _write(job: Job, student: nn.Module, trained: Mapping[str, Encoded]) -> None:
    folder = job.run.stage("finetune")
    changed = trained_outside(student, list(trained))
    for number in range(job.structure.blocks):
        start = f"{job.structure.block_name(number)}."
        values = {name: value for name, value in trained.items() if name.startswith(start)}
        inside = {name: changed.pop(name) for name in list(changed) if name.startswith(start)}
        result = BlockResult(values, {}, inside)
        write_file(block_file(folder, number), partial(write_block, result=result))
    outside = BlockResult({}, {}, changed)
    write_file(folder / OUTSIDE, partial(write_block, result=outside))


def _facts(history: History, accelerator: Accelerator) -> dict[str, Any]:
    return {
        "steps": len(history.records),
        "processes": accelerator.num_processes,
        "losses": [record.loss for record in history.records],
        "parts": {"first": history.records[0].parts, "last": history.records[-1].parts},
        "flip_share": history.flip_share,
    }
