"""Which windows a training step sees: a pure function of seed and step, so that a resumed training goes on alike."""

from hashlib import blake2b

import torch
from jaxtyping import Int
from torch import Tensor


def step_windows(step: int, *, windows: int, batch: int, seed: int) -> Int[Tensor, " batch"]:
    """Return the windows of a step: the stream of seeded permutations of all windows, cut into batches."""
    wanted = range(step * batch, (step + 1) * batch)
    epochs = range(wanted.start // windows, (wanted.stop - 1) // windows + 1)
    orders = [torch.randperm(windows, generator=seeded_generator(seed, "epoch", epoch)) for epoch in epochs]
    first = wanted.start - epochs.start * windows
    return torch.cat(orders)[first : first + batch]


def seeded_generator(seed: int, *path: str | int) -> torch.Generator:
    """Return a generator of its own for each path of names and numbers under a seed."""
    digest = blake2b(repr((seed, *path)).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
