"""The compiled kernels: whether they are there, which of them this processor has, and how many threads they may use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

try:
    from liptt_cli.kernels import _native
except ImportError as error:
    _native: ModuleType | None = None  # type: ignore[no-redef]
    ABSENT = f"the compiled kernels are not here ({error}); install liptt with a C compiler at hand"
else:
    ABSENT = ""

NUMBERS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
FAST = "-fast"
_kept: int | None = None  # how many threads the kernels keep while torch has one


@cache
def kernels() -> dict[str, bool]:
    """Return the compiled kernels, the quickest first, and whether this processor can run them."""
    return {name: bool(supported) for name, supported in _native.kernels()} if _native is not None else {}


@cache
def kernel_number(name: str) -> int:
    """Return the place of a kernel in the compiled list."""
    return list(kernels()).index(name)


@cache
def thread_limit() -> int:
    """Return how many threads this process may keep busy: by its affinity and by its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(Path("/sys/fs/cgroup/cpu.max"))
    return max(1, cores if quota is None else min(cores, quota))


def threads() -> int:
    """Return how many threads a call may use: torch's number, within this process's limit."""
    return min(torch.get_num_threads() if _kept is None else _kept, thread_limit())


@contextmanager
def threads_to_ourselves() -> Iterator[None]:
    """Run torch's own operators on one thread inside, and the kernels on as many as torch had.

    Two thread pools that take turns on the same cores spin against each other, and an OpenMP barrier waits for a
    thread that lost its core. It is torch's number for the whole process, so only one thread at a time may be inside.
    """
    global _kept
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    _kept = before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _kept = None
        torch.set_num_threads(before)


def run(kernel: int, block: Tensor, x: Tensor, output: Tensor) -> None:
    """Run a program on contiguous tensors of one dtype, x (tokens, in) and output (tokens, out)."""
    _native.run(
        kernel,
        block.data_ptr(),
        NUMBERS[x.dtype],
        x.numel() // x.shape[-1],
        x.data_ptr(),
        output.data_ptr(),
        threads(),
    )


def _quota(file: Path) -> int | None:
    """Return how many whole processors a control group may use, at least one, or None if it is not limited."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
