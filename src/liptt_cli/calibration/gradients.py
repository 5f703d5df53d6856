"""How much the model's loss feels each output of each linear: E[g^2] over tokens, g = d loss / d output.

The loss is the next-token cross-entropy in nats, summed over the tokens, so g does not depend on how many there
are (diagonal Fisher as in DBF, Boza and Macko 2025, arXiv:2505.11076, and NanoQuant, Chong et al. 2026,
arXiv:2602.06694, which multiply a mean's gradient by 1e6 instead).

    forward, block by block:     what enters each block goes to disk
    head:                        d loss / d (what leaves the last block)
    backward, block by block:    each block runs once more and hands the gradient on to the one before it

Memory is one block and the activations of one batch, and the whole is what one backward pass of the whole model
gives. Tokens can be clipped at a percentile of their gradients' norms, batch by batch (`algebra.metric.clipped`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.algebra.metric import Look, Seen, see
from liptt_cli.calibration.streams import Hidden, Streams
from liptt_cli.calibration.walk import Calls, Run
from liptt_cli.models.blocks import linears
from liptt_cli.models.streamed import StreamedModel

Squares = dict[str, Float[Tensor, " _out"]]


@dataclass(frozen=True)
class Backward:
    """A backward pass over windows: how many go at once, where tokens are clipped, whom to tell of each block."""

    ids: Int[Tensor, "windows tokens"]
    batch_windows: int
    clip_percentile: float = 100.0
    advance: Callable[[str], None] = lambda _message: None


def gradient_squares(model: StreamedModel, backward: Backward, *, streams: Streams) -> Squares:
    """Return the mean squared gradient of each linear's outputs, by the linear's name; zeros where none came back.

    Args:
        model: in the dtype of the gradients; nothing of it stays in memory.
        backward: the windows, and how they are taken.
        streams: where what enters the blocks is kept meanwhile; empty afterwards.
    """
    calls, blocks = Calls(model, backward.ids), model.structure.blocks
    _forward(model, backward, calls=calls, streams=streams)
    gradient = _of_head(model, backward.ids, streams.read("clean", blocks))
    found: Squares = {}
    for number in reversed(range(blocks)):
        with model.block(number) as block:
            run = Run(calls, number, backward.batch_windows)
            ledger = _Ledger(Look(False, backward.clip_percentile))
            gradient = _through(block, run, streams.read("clean", number), gradient=gradient, ledger=ledger)
            prefix = model.structure.block_name(number)
            found |= {f"{prefix}.{path}": ledger.square(path, linear) for path, linear in linears(block).items()}
        backward.advance(f"gradients of block {number}")
    streams.drop(blocks)
    return dict(reversed(found.items()))


@dataclass
class _Ledger:
    """What came back to the outputs of a block's linears."""

    look: Look
    seen: dict[str, Seen] = field(default_factory=dict)

    def note(self, path: str, gradient: Float[Tensor, "*lead out"]) -> None:
        """Add the gradient of one call of a linear."""
        seen = see(gradient, self.look)
        self.seen[path] = self.seen[path] + seen if path in self.seen else seen

    def square(self, path: str, linear: nn.Linear) -> Float[Tensor, " out"]:
        """Return the mean squares of a linear; zeros if nothing came back to it."""
        if path not in self.seen:
            return torch.zeros(linear.out_features)
        return self.seen[path].square.to(torch.float32)


def _forward(model: StreamedModel, backward: Backward, *, calls: Calls, streams: Streams) -> None:
    ids, batch = backward.ids, backward.batch_windows
    starts = range(0, len(ids), batch)
    streams.write("clean", 0, torch.cat([model.calls(ids[start : start + batch])[0] for start in starts]))
    model.release()
    for number in range(model.structure.blocks):
        with model.block(number) as block:
            run = Run(calls, number, batch)
            streams.write("clean", number + 1, run.whole(block, streams.read("clean", number)))
        backward.advance(f"forward through block {number}")


def _of_head(model: StreamedModel, ids: Int[Tensor, "windows tokens"], hidden: Hidden) -> Hidden:
    """Return the gradient of what leaves the last block, window by window: logits are large."""
    found: list[Tensor] = []
    for window, entering in zip(ids.split(1), hidden.split(1), strict=True):
        leaf = entering.detach().requires_grad_(True)
        logits = model.logits(window, leaf)
        loss = nn.functional.cross_entropy(logits[0, :-1].float(), window[0, 1:], reduction="sum")
        found.extend(torch.autograd.grad(loss, [leaf]))
    model.release()
    return torch.cat(found)


def _through(block: nn.Module, run: Run, hidden: Hidden, *, gradient: Hidden, ledger: _Ledger) -> Hidden:
    """Return the gradient of what enters a block from that of what leaves it, and note its linears' own."""
    found: list[Tensor] = []
    with _noted(block, ledger):
        for entering, leaving in zip(hidden.split(run.batch_windows), gradient.split(run.batch_windows), strict=True):
            leaf = entering.detach().requires_grad_(True)
            found.extend(torch.autograd.grad(run.on(block, leaf), [leaf], leaving))
    return torch.cat(found)


@contextmanager
def _noted(block: nn.Module, ledger: _Ledger) -> Iterator[None]:
    """Note the gradient of each output of each linear as it is made."""

    def hook(path: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def watch(_linear: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
            output.register_hook(lambda gradient: ledger.note(path, gradient))

        return watch

    handles = [linear.register_forward_hook(hook(path)) for path, linear in linears(block).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
