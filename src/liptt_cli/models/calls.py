"""How a model calls its blocks: recorded from the model's own forward, block weights not needed.

The forward of every block is replaced for the time by one that writes its arguments down and hands the hidden states
on. So masks, rotary embeddings, position rules and kinds of attention come out right for every block, without a line of
code for any architecture. Arguments depend on the tokens' positions only, never on the hidden states.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from liptt_cli.errors import ModelError

Forward = Callable[..., Any]


class _LastBlockReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends the model's forward once the last block was called; final norm and head need not run."""


@dataclass
class Recording:
    """What was recorded: the hidden states that entered the first block, and each block's other arguments by name."""

    hidden: list[Tensor] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)


def record(blocks: Sequence[nn.Module], forward: Callable[[], object], *, extras: tuple[Any, ...] | None) -> Recording:
    """Run a model's forward up to its last block and record how it calls the given blocks.

    Args:
        blocks: the blocks, in the order in which the model calls them.
        forward: runs the model once.
        extras: what the blocks return behind the hidden states; None if they return a bare tensor.

    Raises:
        ModelError: if the model does not call every block once, in order.
    """
    recording = Recording()

    def recorder(number: int, own: Forward) -> Forward:
        def see(*args: Any, **kwargs: Any) -> Any:
            hidden, arguments = _by_name(own, args, kwargs)
            if number != len(recording.arguments):
                raise ModelError(
                    f"block {number} was called as number {len(recording.arguments)}; blocks must be in order"
                )
            recording.hidden[:] = recording.hidden or [hidden]
            recording.arguments.append(arguments)
            if number == len(blocks) - 1:
                raise _LastBlockReached
            return _returned(hidden, extras)

        return see

    with _replaced(blocks, recorder):
        try:
            forward()
        except _LastBlockReached:
            return recording
    raise ModelError(f"the model called {len(recording.arguments)} of its {len(blocks)} blocks")


@contextmanager
def handing_on(blocks: Sequence[nn.Module], hidden: Tensor, *, extras: tuple[Any, ...] | None) -> Iterator[None]:
    """Let every block return `hidden`, whatever it gets: the model's forward then ends as if its blocks had made it."""

    def constant(_number: int, _own: Forward) -> Forward:
        return lambda *_args, **_kwargs: _returned(hidden, extras)

    with _replaced(blocks, constant):
        yield


def hidden_of(output: Any) -> Tensor:
    """Return the hidden states from what a block returned: the tensor itself, or the first of a tuple."""
    hidden = output if isinstance(output, Tensor) else output[0]
    if not isinstance(hidden, Tensor):
        raise ModelError(f"a block returned {type(output).__name__} without hidden states in front")
    return hidden


def extras_of(output: Any) -> tuple[Any, ...] | None:
    """Return what a block returned behind the hidden states; None for a bare tensor."""
    return None if isinstance(output, Tensor) else tuple(output[1:])


def _returned(hidden: Tensor, extras: tuple[Any, ...] | None) -> Any:
    return hidden if extras is None else (hidden, *extras)


@contextmanager
def _replaced(blocks: Sequence[nn.Module], make: Callable[[int, Forward], Forward]) -> Iterator[None]:
    """Give every block another forward, on the instance, so that its class and attributes stay visible to the model."""
    try:
        for number, block in enumerate(blocks):
            block.forward = make(number, block.forward)
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def _by_name(forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Split a call into its first argument, the hidden states, and the others by name."""
    signature = inspect.signature(forward)
    arguments = dict(signature.bind(*args, **kwargs).arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and arguments.pop(parameter.name, ()):
            raise ModelError("a block was called with unnamed arguments behind its own; they cannot be recorded")
    hidden = arguments.pop(next(iter(signature.parameters)))
    if not isinstance(hidden, Tensor):
        raise ModelError(f"the first argument of a block is {type(hidden).__name__}; hidden states were expected")
    return hidden, arguments
