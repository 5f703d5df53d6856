"""Collect what a linear sees: the second moment of its input while its block runs over all windows."""

from collections.abc import Sequence
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


@torch.no_grad()
def each_seen_by(linears: Sequence[nn.Module], block: nn.Module, hidden: Hidden, *, run: Run, look: Look) -> list[Seen]:
    """Return the second moment of each linear's input, all in one pass; one that is never called saw no token.

    Args:
        linears: of equally many columns, one of which at least is called.
        block: holds them.
        hidden: what enters the block.
        run: runs it.
        look: how the inputs are seen.
    """
    found: dict[int, Seen] = {}

    def note(number: int, arguments: tuple[Any, ...]) -> None:
        seen = see(arguments[0], look)
        found[number] = found[number] + seen if number in found else seen

    handles = [
        linear.register_forward_pre_hook(lambda _, arguments, number=number: note(number, arguments))
        for number, linear in enumerate(linears)
    ]
    try:
        for start in range(0, len(hidden), run.batch_windows):
            run.on(block, hidden[start : start + run.batch_windows])
    finally:
        for handle in handles:
            handle.remove()
    columns = len(next(iter(found.values())).square)
    nothing = see(hidden.new_zeros(0, columns), look)
    return [found.get(number, nothing) for number in range(len(linears))]


def _until_seen(block: nn.Module, hidden: Hidden, run: Run) -> None:
    try:
        run.on(block, hidden)
    except _EnoughSeen:
        return
