"""Which kernel runs here, and why not a faster one.

`LIPTT_KERNEL` chooses: `auto` (the default) takes the quickest that is as accurate as bfloat16 inputs, `fast` the
quickest of all (tables of 7 bits included, an error of 1 to 2 %), `torch` the torch meaning, any other name that very
kernel. On CUDA devices `fast` reads inputs of 8 bits, and the names of the processor's kernels mean `auto`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch

from liptt_cli.errors import ConfigError
from liptt_cli.forms.base import Form
from liptt_cli.kernels import native
from liptt_cli.kernels.fits import misfit

VARIABLE = "LIPTT_KERNEL"
TORCH = "torch"
TRITON, TRITON_FAST = "triton", "triton-fast"
_OLDEST_CAPABILITY = (8, 0)  # the first with tensor cores for bfloat16
_exact_blocks = 0


@dataclass(frozen=True)
class Route:
    """The kernel that runs, `torch` being none, and why it is no faster one."""

    name: str
    reason: str


def describe(form: Form, device: str = "cpu") -> Route:
    """Return what runs a weight of this form at inference on this kind of device."""
    route, reason = chosen(device), misfit(form)
    return route if route.name == TORCH or reason is None else Route(TORCH, reason)


def chosen(device: str = "cpu") -> Route:
    """Return what runs the forms that fit, on this kind of device.

    Raises:
        ConfigError: if `LIPTT_KERNEL` names what is not there.
    """
    if _exact_blocks:
        return Route(TORCH, "exactness was asked for")
    wanted = os.environ.get(VARIABLE, "auto")
    return _choose(wanted) if device == "cpu" else _choose_for(device, wanted)


@contextmanager
def exact() -> Iterator[None]:
    """Run the torch meaning inside: for whoever promises equal numbers."""
    global _exact_blocks
    _exact_blocks += 1
    try:
        yield
    finally:
        _exact_blocks -= 1


@cache
def _choose(wanted: str) -> Route:
    there = [name for name, supported in native.kernels().items() if supported]
    if wanted == TORCH:
        return Route(TORCH, f"{VARIABLE}={TORCH}")
    if wanted in there:
        return Route(wanted, f"{VARIABLE}={wanted}")
    if wanted == "auto":
        return _quickest([name for name in there if not name.endswith(native.FAST)])
    if wanted == "fast" and any(name.endswith(native.FAST) for name in there):
        told = "7-bit tables" if there[0].endswith(native.FAST) else "the exact one is the quickest here"
        return Route(there[0], f"{VARIABLE}=fast: {told}")
    reason = native.ABSENT or ("this processor cannot run it" if wanted in native.kernels() else "no such kernel")
    raise ConfigError(f"{VARIABLE}={wanted}: {reason}; it may be one of {', '.join(['auto', TORCH, *there])}")


def _quickest(there: list[str]) -> Route:
    if not there:
        return Route(TORCH, native.ABSENT)
    slower = [name for name, supported in native.kernels().items() if not supported and not name.endswith(native.FAST)]
    reason = f"this processor has no {', no '.join(slower)}" if slower else "the quickest that liptt has"
    return Route(there[0], reason)


@cache
def _choose_for(device: str, wanted: str) -> Route:
    known = ["auto", "fast", TORCH, TRITON, TRITON_FAST, *native.kernels()]
    if wanted not in known:
        raise ConfigError(f"{VARIABLE}={wanted}: there is no such kernel; it may be one of {', '.join(known)}")
    if wanted == TORCH:
        return Route(TORCH, f"{VARIABLE}={TORCH}")
    if device != "cuda" or torch.version.hip is not None:
        return Route(TORCH, f"no kernel for {device if device != 'cuda' else 'ROCm'}")
    if not torch.cuda.is_available():
        return Route(TORCH, "there is no GPU")
    if find_spec("triton") is None:
        return Route(TORCH, "Triton is not installed; torch's builds for CUDA on Linux bring it")
    if torch.cuda.get_device_capability() < _OLDEST_CAPABILITY:
        return Route(TORCH, "this GPU has no tensor cores for bfloat16")
    if wanted in ("fast", TRITON_FAST):
        return Route(TRITON_FAST, f"{VARIABLE}={wanted}: 8-bit inputs")
    return Route(TRITON, "the quickest that liptt has")
