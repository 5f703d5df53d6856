"""Listen at the blocks of a model: what went into the first one, and what came out of each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from liptt_cli.layers.surgery import get_module


@contextmanager
def recorded_hidden(model: nn.Module, block_path: str) -> Iterator[dict[int, Tensor]]:
    """Fill the yielded dict at each forward pass: -1 is the input of block 0, and b the output of block b.

    Args:
        model: any model whose blocks are called one after the other with the hidden states first.
        block_path: where its list of blocks is, such as `model.layers`.
    """
    hidden: dict[int, Tensor] = {}

    def note_input(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden[-1] = arguments[0] if arguments else named["hidden_states"]

    def note_output(number: int) -> Any:
        def note(_module: nn.Module, _arguments: tuple[Any, ...], output: Any) -> None:
            hidden[number] = output if isinstance(output, Tensor) else output[0]

        return note

    blocks = list(get_module(model, block_path).children())
    handles = [blocks[0].register_forward_pre_hook(note_input, with_kwargs=True)]
    handles += [block.register_forward_hook(note_output(b)) for b, block in enumerate(blocks)]
    try:
        yield hidden
    finally:
        for handle in handles:
            handle.remove()
