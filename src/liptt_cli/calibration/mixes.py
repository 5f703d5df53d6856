"""Calibration text of several corpora: how many windows each gives, and their common order.

Statistics and tuning on one corpus alone fit its inputs and lose on others; NanoQuant (Chong et al. 2026,
arXiv:2602.06694) measures it on WikiText-2 against C4. Shares are of windows, so of tokens.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def shared_out(windows: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return each corpus's number of windows, largest remainders first; corpora without one are left out.

    The shares add up to 1 and the numbers to `windows`.
    """
    counts = {name: int(share * windows) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * windows)
    for name in by_remainder[: windows - sum(counts.values())]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def mixed(
    parts: Sequence[Int[Tensor, "_windows tokens"]], *, generator: torch.Generator
) -> Int[Tensor, "windows tokens"]:
    """Join the windows of corpora in a random order, so that any run of them is a mix; one corpus keeps its own."""
    if len(parts) == 1:
        return parts[0]
    joined = torch.cat(list(parts))
    return joined[torch.randperm(len(joined), generator=generator)]
