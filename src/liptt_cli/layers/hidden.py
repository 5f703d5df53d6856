"""Listen at the blocks of a model: what went into the first one, what came out of each, and how each was called."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from liptt_cli.layers.surgery import get_module


@dataclass
class HeardBlocks:
    """The last forward pass: `hidden[-1]` is the input of block 0, and `hidden[b]` the output of block b."""

    blocks: list[nn.Module]
    hidden: dict[int, Tensor] = field(default_factory=dict)
    _calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    _deaf: bool = False

    def run(self, number: int, hidden: Tensor) -> Tensor:
        """Run a block on other hidden states of the same windows, called as the model last called it.

        Gradients flow if enabled. The model must have run without a cache of keys and values, which would grow.
        """
        others, named = self._calls[number]
        self._deaf = True
        try:
            return _hidden_of(self.blocks[number](hidden, *others, **named))
        finally:
            self._deaf = False

    def note_call(self, number: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Write down the arguments of a call, the hidden states only of the first block."""
        if self._deaf:
            return
        if number == 0:
            self.hidden[-1] = arguments[0] if arguments else named["hidden_states"]
        self._calls[number] = (arguments[1:], {key: each for key, each in named.items() if key != "hidden_states"})

    def note_output(self, number: int, output: Any) -> None:
        """Write down what a block returned."""
        if not self._deaf:
            self.hidden[number] = _hidden_of(output)


@contextmanager
def heard_blocks(model: nn.Module, block_path: str) -> Iterator[HeardBlocks]:
    """Fill the yielded record at each forward pass.

    Args:
        model: any model whose blocks are called one after the other with the hidden states first.
        block_path: where its list of blocks is, such as `model.layers`.
    """
    heard = HeardBlocks(list(get_module(model, block_path).children()))

    def before(number: int) -> Any:
        return lambda _module, arguments, named: heard.note_call(number, arguments, named)

    def after(number: int) -> Any:
        return lambda _module, _arguments, output: heard.note_output(number, output)

    handles: list[Any] = []
    for number, block in enumerate(heard.blocks):
        handles.append(block.register_forward_pre_hook(before(number), with_kwargs=True))
        handles.append(block.register_forward_hook(after(number)))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded_hidden(model: nn.Module, block_path: str) -> Iterator[dict[int, Tensor]]:
    """Fill the yielded dict at each forward pass: -1 is the input of block 0, and b the output of block b.

    Args:
        model: any model whose blocks are called one after the other with the hidden states first.
        block_path: where its list of blocks is, such as `model.layers`.
    """
    with heard_blocks(model, block_path) as heard:
        yield heard.hidden


def without_cache(model: nn.Module) -> dict[str, bool]:
    """Return the arguments of a forward pass that keep a model from collecting keys and values, where it would."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def _hidden_of(output: Any) -> Tensor:
    hidden: Tensor = output if isinstance(output, Tensor) else output[0]
    return hidden
