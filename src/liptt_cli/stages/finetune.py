"""Stage 4, finetune: all blocks thawed and trained together, once, against the dense model ("one step").

The only stage that runs on several processes, through Accelerate. Writes the blocks again.
"""

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from liptt_cli.catalogue import objective_of
from liptt_cli.layers.packed_table import put_dense_tables
from liptt_cli.layers.surgery import thawed
from liptt_cli.packing.block_file import read_sources
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages.assemble import compressed_model, dense_model
from liptt_cli.stages.job import Job
from liptt_cli.stages.trained import progress, write_trained
from liptt_cli.tuning import finetune_model
from liptt_cli.tuning_loop import Course, History


def run(job: Job, accelerator: Accelerator) -> dict[str, Any]:
    """Train the compressed model end to end; every process takes part, the first one writes."""
    if not job.config.finetune.trains:
        return {"steps": 0}
    options = job.config.finetune.in_steps(len(job.windows), processes=accelerator.num_processes)
    if accelerator.is_main_process:
        job.reporter.begin("finetune", total=options.steps)
    files = job.block_files("binarize")
    overlay = Overlay.read(files)
    student = compressed_model(job, files)
    put_dense_tables(student, job.dtype)  # rounded, but no codes to unpack in every step; nothing in them trains
    values = {name: overlay.stored(name) for name in overlay.forms}
    modules = thawed(student, values, tuning=options, sources=read_sources(files))
    history = finetune_model(
        student,
        dense_model(job),
        block_path=job.structure.block_path,
        ids=job.windows,
        course=_course(job, accelerator),
    )
    if accelerator.is_main_process:
        write_trained(job, "finetune", student, {name: module.freeze() for name, module in modules.items()})
        _checkpoint(job).unlink(missing_ok=True)
    return _facts(history, accelerator)


def _course(job: Job, accelerator: Accelerator) -> Course:
    return Course(
        options=job.config.finetune,
        objectives=[objective_of(each) for each in job.config.finetune.objectives],
        seed=job.config.seed,
        checkpoint=_checkpoint(job),
        on_step=progress(job.reporter),
        accelerator=accelerator,
        recompute=job.config.finetune.gradient_checkpointing,
    )


def _checkpoint(job: Job) -> Path:
    return job.run.stage("finetune") / "checkpoint.pt"


def _facts(history: History, accelerator: Accelerator) -> dict[str, Any]:
    return {
        "steps": len(history.records),
        "processes": accelerator.num_processes,
        "losses": [record.loss for record in history.records],
        "parts": {"first": history.records[0].parts, "last": history.records[-1].parts},
        "flip_share": history.flip_share,
    }
