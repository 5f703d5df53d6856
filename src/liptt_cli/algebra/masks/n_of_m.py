"""N of M: the entries of largest score of each run of M columns of a row (SparseGPT; STBLLM, arXiv:2408.01803).

Where the columns are no whole runs, the last run is shorter and keeps its share, rounded up; labels of entries are
stored then instead of patterns.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from liptt_cli.algebra.masks.base import Fixed
from liptt_cli.formats.pieces import Told


@dataclass(frozen=True)
class NOfM:
    """Zone 1 is what is kept: `keep` of each `of` entries."""

    keep: int
    of: int
    zones: int = 2

    @property
    def run(self) -> int:
        """Return M."""
        return self.of

    def told(self, columns: int) -> Told:
        """Return a choice for each run."""
        return "pattern" if columns % self.of == 0 else "entry"

    def propose(self, score: Float[Tensor, "out some"], *, where: Bool[Tensor, "out some"] | None = None) -> Fixed:
        """Return the one choice."""
        columns = score.shape[1]
        ranked = score if where is None else score.masked_fill(~where, torch.finfo(score.dtype).min)
        runs = torch.nn.functional.pad(ranked, (0, -columns % self.of), value=-torch.inf).unflatten(1, (-1, self.of))
        places = runs.argsort(dim=2, descending=True, stable=True).argsort(dim=2)
        kept = torch.full((runs.shape[1], 1), self.keep, device=score.device)
        if columns % self.of:
            kept[-1] = -(-self.keep * (columns % self.of) // self.of)
        labels = (places < kept).to(torch.uint8).flatten(1)[:, :columns]
        return Fixed(labels, where)
