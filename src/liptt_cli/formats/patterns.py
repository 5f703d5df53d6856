"""The patterns of N kept in a run of M: the rank of a choice, and the choice of a rank.

All choices of `keep` out of `of` places in lexicographic order of their masks, read from the first place on.
"""

from functools import cache
from itertools import combinations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@cache
def choices(keep: int, of: int) -> Bool[Tensor, "choices of"]:
    """Return every choice as a mask, by rank."""
    found = torch.zeros(len(list(combinations(range(of), keep))), of, dtype=torch.bool)
    for row, places in zip(found, combinations(range(of), keep), strict=True):
        row[list(places)] = True
    return found


def ranks(mask: Bool[Tensor, "*lead of"], *, keep: int) -> Int[Tensor, "*lead"]:
    """Return the rank of each choice.

    Raises:
        ValueError: if a mask does not keep `keep` places.
    """
    if not bool((mask.sum(-1) == keep).all()):
        raise ValueError(f"a run keeps another number of its {mask.shape[-1]} places than {keep}")
    known = choices(keep, mask.shape[-1]).to(mask.device)
    weights = 2 ** torch.arange(mask.shape[-1], device=mask.device)
    rank_of = torch.zeros(2 ** mask.shape[-1], dtype=torch.int32, device=mask.device)
    rank_of[(known * weights).sum(-1)] = torch.arange(len(known), dtype=torch.int32, device=mask.device)
    found: Tensor = rank_of[(mask * weights).sum(-1)]
    return found
