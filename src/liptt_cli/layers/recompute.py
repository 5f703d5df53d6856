"""Gradient checkpointing: of each block only its inputs are kept, and it runs once more in the backward pass.

Chen et al. 2016, arXiv:1604.06174. Memory of the blocks' insides for a third of forward and backward together. The
numbers stay the same: a block in evaluation mode draws no random ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from liptt_cli.layers.surgery import get_module


@contextmanager
def recomputed_blocks(model: nn.Module, block_path: str) -> Iterator[None]:
    """Run the blocks of a model that way, in place, until the end of the `with`; hooks on them run once.

    Args:
        model: in evaluation mode, called without a cache of keys and values, which would grow twice.
        block_path: where its list of blocks is, such as `model.layers`.
    """
    blocks = list(get_module(model, block_path).children())
    own: list[Any] = [block.forward for block in blocks]
    for block, forward in zip(blocks, own, strict=True):
        block.forward = partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
