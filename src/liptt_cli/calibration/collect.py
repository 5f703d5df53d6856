"""Collect what a linear sees: the second moment of its input while its block runs over all windows."""

from typing import Any

import torch
from torch import nn

from liptt_cli.algebra.metric import Look, Seen, see
from liptt_cli.calibration.streams import Hidden
from liptt_cli.calibration.walk import Run


class _EnoughSeen(Exception):  # noqa: N818 - a signal, not an error
    """Ends a block's forward once the linear of interest was called."""


@torch.no_grad()
def seen_by(linear: nn.Module, block: nn.Module, hidden: Hidden, *, run: Run, look: Look) -> Seen:
    """Return the second moment of a linear's input, the block running as it is now."""
    found: list[Seen] = []

    def note(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen = see(arguments[0], look)
        found[:] = [found[0] + seen if found else seen]
        raise _EnoughSeen

    handle = linear.register_forward_pre_hook(note)
    try:
        for start in range(0, len(hidden), run.batch_windows):
            _until_seen(block, hidden[start : start + run.batch_windows], run)
    finally:
        handle.remove()
    return found[0]


def _until_seen(block: nn.Module, hidden: Hidden, run: Run) -> None:
    try:
        run.on(block, hidden)
    except _EnoughSeen:
        return
