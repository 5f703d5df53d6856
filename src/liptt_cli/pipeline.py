"""The six stages in order: load, decompose, binarize, finetune, evaluate, export.

Each stage leaves a whole folder or none; `compress` skips what is whole. Of several processes the first
does everything but the fine-tune, in which all take part.
"""

import logging
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from accelerate import Accelerator

from liptt_cli.errors import Interrupted
from liptt_cli.report import write_report
from liptt_cli.run_directory import STAGES
from liptt_cli.stages import binarize, decompose, evaluate, finetune, load, package
from liptt_cli.stages.job import Job

LOGGER = logging.getLogger("liptt_cli")

_ALONE: Mapping[str, Callable[[Job], dict[str, Any]]] = {
    "load": load.run,
    "decompose": decompose.run,
    "binarize": binarize.run,
    "evaluate": evaluate.run,
    "export": package.run,
}


def compress(job: Job, accelerator: Accelerator, *, until: str = STAGES[-1]) -> dict[str, Any] | None:
    """Run the stages up to `until`, skipping whole ones; return the report once all six are done.

    Raises:
        OtherRunError: if stages are left to do, and the model is not the one that the run began with.
        LipttError: whatever a stage refuses; the run directory can be resumed.
    """
    with _logging_to(job.run.path / "log.txt"), _stoppable(job):
        if accelerator.is_main_process and job.run.is_whole("load") and not job.run.is_whole(until):
            load.refuse_other_model(job)
        for name in STAGES[: STAGES.index(until) + 1]:
            if not job.run.is_whole(name):
                _run_stage(job, name, accelerator)
            accelerator.wait_for_everyone()
        if until == STAGES[-1] and accelerator.is_main_process:
            return write_report(job.run)
    return None


def _run_stage(job: Job, name: str, accelerator: Accelerator) -> None:
    began = time.monotonic()
    if name == "finetune":
        facts = finetune.run(job, accelerator)
    elif accelerator.is_main_process:
        facts = _ALONE[name](job)
    if accelerator.is_main_process:
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        job.run.seal(name, {**facts, "seconds": time.monotonic() - began, "peak_bytes": peak_bytes})


class _Log(logging.FileHandler):
    """The log of a run; a disk too full for it says so where it matters."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let the run itself find out."""


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Keep what is logged, and the traceback of what ends the run, which gets a note of that place."""
    handler = _Log(path, encoding="utf8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        LOGGER.exception("the run stopped")
        error.add_note(f"traceback in {path}")
        raise
    finally:
        LOGGER.removeHandler(handler)
        with suppress(OSError):
            handler.close()


@contextmanager
def _stoppable(job: Job) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a message that tells how to go on."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Interrupted(
            f"stopped; nothing is lost but the step in hand. Go on: liptt compress --resume {job.run.path}"
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
