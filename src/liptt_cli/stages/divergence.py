"""What one linear's error does to the whole model: how far its next tokens go when that linear alone is replaced.

    KL(p_dense || p_replaced), mean over the tokens of a few calibration windows, in nats

The replaced block runs on the dense model's inputs, and all blocks behind it on what comes out, one read at a time:
(linears of the block) x (blocks behind it) block passes, and two blocks in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.algebra.objectives.base import Trace
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.calibration.streams import Hidden
from liptt_cli.calibration.walk import Run, Visit
from liptt_cli.layers.surgery import get_module
from liptt_cli.models.streamed import StreamedModel


@dataclass(frozen=True)
class Divergence:
    """Measures on the first `windows` of the walk's windows."""

    model: StreamedModel
    ids: Int[Tensor, "windows tokens"]
    windows: int

    def of(self, visit: Visit, weights: Mapping[str, Float[Tensor, "out in"]]) -> dict[str, float]:
        """Return the divergence for each linear of a block alone, by its path in it, when it has that weight."""
        clean, target = visit.clean, visit.target
        if clean is None or target is None:
            raise ValueError("a divergence is measured on hidden states, but this walk has none")
        streams = {"": target[: self.windows]}
        for path, weight in weights.items():
            streams[path] = _replaced(visit, path, weight, hidden=clean[: self.windows])
        for number in range(visit.number + 1, self.model.structure.blocks):
            run = Run(visit.run.calls, number, visit.run.batch_windows)
            with self.model.block(number) as block:
                streams = {path: run.whole(block, hidden) for path, hidden in streams.items()}
        return self._nats(streams)

    @torch.no_grad()
    def _nats(self, streams: Mapping[str, Hidden]) -> dict[str, float]:
        totals = {path: 0.0 for path in streams if path}
        for window in range(self.windows):
            ids = self.ids[window : window + 1]
            logits = {path: self.model.logits(ids, hidden[window : window + 1]) for path, hidden in streams.items()}
            for path in totals:
                pair = (Trace(logits=logits[path]), Trace(logits=logits[""]))
                totals[path] += float(TeacherNats().loss(*pair, generator=torch.Generator())) / self.windows
        self.model.release()
        return totals


def _replaced(visit: Visit, path: str, weight: Float[Tensor, "out in"], *, hidden: Hidden) -> Hidden:
    """Return a block's output with another weight in one linear, which gets its own back."""
    linear = get_module(visit.block, path)
    own = linear.weight
    try:
        linear.weight = nn.Parameter(weight.to(own), requires_grad=False)  # type: ignore[arg-type]
        return visit.run.whole(visit.block, hidden)
    finally:
        linear.weight = own
