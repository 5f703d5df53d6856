"""The entries of largest score: a share of all, wherever they lie, or of each row (PB-LLM, arXiv:2310.00034)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.masks.base import Fixed
from liptt_cli.formats.pieces import Told
from liptt_cli.forms.zones import share_count


@dataclass(frozen=True)
class TopShare:
    """Zone 1 is the `share` of entries of largest score; with `by_row` it is as many in each row."""

    share: float
    by_row: bool = False
    zones: int = 2
    run: int = 1

    def told(self, columns: int) -> Told:
        """Return a label for each entry."""
        return "entry"

    def propose(self, score: Float[Tensor, "out some"], *, where: Bool[Tensor, "out some"] | None = None) -> Fixed:
        """Return the one choice."""
        ranked = score if where is None else score.masked_fill(~where, -torch.inf)
        ranked = ranked if self.by_row else ranked.reshape(1, -1)
        inside = torch.ones_like(ranked, dtype=torch.bool) if where is None else where.reshape(ranked.shape)
        counts = torch.tensor([share_count(self.share, count) for count in inside.sum(1).tolist()], device=score.device)
        order = ranked.topk(int(counts.max()), dim=1).indices
        top = (torch.arange(order.shape[1], device=score.device) < counts.unsqueeze(1)).to(torch.uint8)
        labels = torch.zeros_like(ranked, dtype=torch.uint8).scatter(1, order, top)
        return Fixed(labels.reshape(score.shape), where)
