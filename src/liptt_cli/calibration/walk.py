"""The walk: block by block through a model, with what enters each block in the dense and the compressed model.

    clean[0] = prefix[0] = embedded windows
    for block b:  target = dense block b (clean[b]);  work on it;  prefix[b+1] = block (prefix[b]);  clean[b+1] = target

Peak memory is one block and its activations. A resumed walk redoes the block that was broken off, whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.calibration.streams import Hidden, Streams
from liptt_cli.models.streamed import StreamedModel


@dataclass(frozen=True)
class Visit:
    """One block in its turn: the module, dense at first, and what enters and should leave it."""

    number: int
    block: nn.Module
    clean: Hidden | None
    prefix: Hidden | None
    target: Hidden | None
    run: "Run"


@dataclass
class Calls:
    """How the model calls its blocks (masks, positions), recorded once for each size of batch."""

    model: StreamedModel
    ids: Int[Tensor, "windows tokens"]
    recorded: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def arguments(self, block: int, *, batch: int) -> dict[str, Any]:
        """Return the arguments of a block beside the hidden states."""
        if batch not in self.recorded:
            self.recorded[batch] = self.model.calls(self.ids[:1].expand(batch, -1))[1]
            self.model.release()
        return self.recorded[batch][block]


@dataclass(frozen=True)
class Run:
    """Runs one block on windows with the arguments that the model itself would pass."""

    calls: Calls
    number: int
    batch_windows: int

    def on(self, block: nn.Module, hidden: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return the block's output on a batch of any size; gradients flow if enabled."""
        arguments = self.calls.arguments(self.number, batch=len(hidden))
        return self.calls.model.run_block(block, hidden, arguments)

    @torch.no_grad()
    def batches(self, block: nn.Module, hidden: Hidden) -> Iterator[Float[Tensor, "batch tokens width"]]:
        """Yield the block's output on all windows, batch by batch."""
        for start in range(0, len(hidden), self.batch_windows):
            yield self.on(block, hidden[start : start + self.batch_windows])

    def whole(self, block: nn.Module, hidden: Hidden) -> Hidden:
        """Return the block's output on all windows."""
        return torch.cat(list(self.batches(block, hidden)))


@dataclass(frozen=True)
class Itinerary:
    """Where to begin, how many windows go at once, and whether anything flows at all.

    On a `dense` walk the work leaves each block as it was: `prefix` is `clean`, and one forward is enough.
    """

    first_block: int
    batch_windows: int
    flows: bool
    dense: bool = False


def walk(
    model: StreamedModel,
    ids: Int[Tensor, "windows tokens"],
    *,
    streams: Streams,
    itinerary: Itinerary,
    work: Callable[[Visit], None],
) -> None:
    """Visit the blocks in order; `work` changes the block in place and writes what came of it.

    A walk that does not `flow` runs no forward: its visits carry no hidden states.
    """
    batch, calls = itinerary.batch_windows, Calls(model, ids)
    if itinerary.flows and itinerary.first_block == 0:
        starts = range(0, len(ids), batch)
        streams.write("clean", 0, torch.cat([model.calls(ids[start : start + batch])[0] for start in starts]))
        model.release()
    for number in range(itinerary.first_block, model.structure.blocks):
        with model.block(number) as block:
            run = Run(calls, number, batch)
            if itinerary.flows:
                visit = _visit_dense if itinerary.dense else _visit
                visit(number, block, run, streams=streams, work=work)
            else:
                work(Visit(number, block, None, None, None, run))


def _visit(number: int, block: nn.Module, run: Run, *, streams: Streams, work: Callable[[Visit], None]) -> None:
    clean, prefix = streams.read("clean", number), streams.read("prefix", number)
    target = run.whole(block, clean)
    streams.write("clean", number + 1, target)
    visit = Visit(number, block, clean, prefix, target, run)
    work(visit)
    streams.write("prefix", number + 1, run.whole(block, prefix))
    streams.drop(number)


def _visit_dense(number: int, block: nn.Module, run: Run, *, streams: Streams, work: Callable[[Visit], None]) -> None:
    clean = streams.read("clean", number)
    target = run.whole(block, clean)
    work(Visit(number, block, clean, clean, target, run))
    streams.write("clean", number + 1, target)
    streams.drop(number)
