"""Whole runs of tiny models, for the tests of stages, report and end to end; a run asked for twice is made once.

A session's runs lie in one folder that goes with the process.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from liptt_cli.cli.screen import Progress
from liptt_cli.config import load_config, render_config
from liptt_cli.models.hub import load_model, load_tokenizer, locate
from liptt_cli.pipeline import compress
from liptt_cli.run_directory import RunDirectory, Written, create
from liptt_cli.stages.job import Job
from liptt_cli.tuning import make_accelerator

TEXT = "\n<|endoftext|>\n".join(
    f"Number {number}: the girl and the dog went down to the sea, where {7 * number} small boats were waiting, and "
    f"the oldest of them told a story of {number + 3} cores that were signs with a scale for every row."
    for number in range(40)
)

SMALL = (
    "calibration.windows=8",
    "calibration.window_tokens=16",
    "calibration.batch_windows=4",
    "evaluate.perplexity=[]",
)
_UNIFORM = "decompose.allocator={kind: uniform}"  # evidence has tests of its own
SHORT = {
    **dict.fromkeys(("sign", "rtn", "gptq", "hbllm", "hbllm-col", "pt2-llm", "pb-llm", "billm", "billm-code"), ()),
    **dict.fromkeys(("arb-llm", "arb-llm-plain", "arb-llm-rc", "arb-llm-x", "stbllm", "slim-llm"), ()),
    **dict.fromkeys(("sign-onestep", "onebit", "binarymos", "db-llm", "ternaryllm"), ("finetune.steps=3",)),
    **dict.fromkeys(("lr-qat", "bitnet", "sherry"), ("finetune.steps=3",)),
    "tt-svd-sign": ("bits_per_weight=1.5",),
    "liptt-ptq": (
        "bits_per_weight=1.5",
        _UNIFORM,
        "binarize.solver.iterations=4",
        "binarize.codes.steps=3",
        "binarize.codes.batch_windows=4",
        "finetune.steps=2",
    ),
    "liptt-onestep": (
        "bits_per_weight=1.5",
        _UNIFORM,
        "binarize.solver.iterations=4",
        "finetune.steps=3",
        "finetune.batch_windows=4",
    ),
    "liptt-multistep": (
        "bits_per_weight=1.5",
        "decompose.heal.steps=2",
        "binarize.solver.iterations=4",
        "finetune.steps=2",
    ),
    "dbf": (
        "bits_per_weight=1.5",
        "binarize.solver.iterations=6",
        "binarize.rest.epochs=1",
        "finetune.epochs=1",
        "finetune.batch_windows=4",
        "finetune.latent.flip_every=1",
        "finetune.latent.flip_share=0.01",
    ),
    "nanoquant": (
        "bits_per_weight=1.5",
        "binarize.solver.iterations=4",
        "binarize.rest.epochs=1",
        "binarize.codes.epochs=1",
        "finetune.epochs=1",
        "finetune.batch_windows=4",
    ),
    "littlebit": ("bits_per_weight=3.0", "finetune.epochs=1"),
}


def short(method: str, *overrides: str) -> tuple[str, ...]:
    """Return the overrides that make a shipped recipe short, and more of them."""
    return (*SMALL, "evaluate.lipschitz=false", *SHORT[method], *overrides)


def make_job(model: Path, method: str, *overrides: str, folder: Path) -> Job:
    """Return a run of a shipped recipe, begun in a new folder; it calibrates on a text beside the folder."""
    text = folder.parent / "text.txt"
    text.write_text(TEXT, encoding="utf8")
    words = [f"model={model}", f"calibration.corpus={text}", *overrides]
    loaded = load_config(f"methods/{method}", overrides=words)
    written = Written(loaded.source_path, loaded.source_text, render_config(loaded.resolved), loaded.resolved)
    run = create(folder, written)
    return Job(loaded.config, run, locate(str(model)), None, Progress())


def finish(job: Job, *, until: str = "export") -> dict[str, Any] | None:
    """Run a job's stages in this process, and return its report."""
    try:
        return compress(job, make_accelerator(), until=until)
    finally:
        job.run.release()


@cache
def finished(model: Path, method: str, *overrides: str) -> Job:
    """Return a run of a shipped recipe that went through all stages."""
    job = make_job(model, method, *overrides, folder=_folder() / f"run-{finished.cache_info().misses}")
    finish(job)
    return job


def evaluated(model: Path, method: str) -> Job:
    """Return a finished run that measured perplexity on its own text, and the gain of each block."""
    text = _folder() / "text.txt"
    measured = (f"evaluate.perplexity=['{text}']", "evaluate.window_tokens=32", "evaluate.lipschitz=true")
    return finished(model, method, *short(method, *measured))


@cache
def in_bfloat16(model: Path) -> Path:
    """Return a copy of a model whose weights are stored in bfloat16, as most are."""
    directory = _folder() / f"{model.name}-bfloat16"
    load_model(locate(str(model)), dtype=torch.bfloat16).save_pretrained(directory)
    load_tokenizer(locate(str(model), weights=False)).save_pretrained(directory)
    return directory


def reopened(job: Job) -> Job:
    """Return the same run as another process would see it."""
    run = RunDirectory(job.run.path, job.run.resolved, job.run.origin)
    return Job(job.config, run, job.source, job.near, Progress())


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="liptt-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
