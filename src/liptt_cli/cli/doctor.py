"""`liptt doctor`: what a report of a problem should say about the machine; paste-able."""

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from liptt_cli.cli import screen
from liptt_cli.version import VERSION

_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "datasets", "lm-eval", "pydantic", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Print versions, device, processor, threads, memory, disk, and which kernel runs and why."""
    facts = _software() | _device() | _hardware()
    if as_json:
        screen.emit_json(facts)
        return
    width = max(map(len, facts))
    screen.emit("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))


def _software() -> dict[str, object]:
    facts: dict[str, object] = {"liptt": VERSION, "python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "absent"
    return facts


def _device() -> dict[str, object]:
    import torch

    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda: {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    elif torch.backends.mps.is_available():
        device = "mps"
    return {
        "device": device,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **_kernel(),
    }


def _kernel() -> dict[str, object]:
    """Say which kernel runs packed weights on the CPU, and on a GPU if there is one, and why no faster one."""
    import torch

    from liptt_cli.kernels import native
    from liptt_cli.kernels.dispatch import chosen

    route = chosen()
    here = [name for name, supported in native.kernels().items() if supported]
    on_gpu = {}
    if torch.cuda.is_available():
        on_gpu = {"gpu_kernel": chosen("cuda").name, "gpu_kernel_reason": chosen("cuda").reason}
    return {
        "kernel": route.name,
        "kernel_reason": route.reason,
        "kernels": " ".join(here) or "none compiled",
        "kernel_threads": native.threads(),
        **on_gpu,
    }


def _hardware() -> dict[str, object]:
    free = shutil.disk_usage(Path.cwd()).free
    page_bytes, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu("model name") or platform.processor() or platform.machine(),
        "cpu_flags": " ".join(flag for flag in _FLAGS if flag in _cpu("flags").split()) or "unknown",
        "cores": os.cpu_count() or 0,
        "memory_bytes": page_bytes * pages,
        "disk_free_bytes": free,
        "executable": sys.executable,
    }


def _cpu(field: str) -> str:
    """Return a field of Linux's description of the first core, empty elsewhere."""
    description = Path("/proc/cpuinfo")
    if not description.is_file():
        return ""
    pairs = (line.partition(":") for line in description.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for name, _, value in pairs if name.strip() == field), "")
