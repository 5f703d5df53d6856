"""Keys and values of all tokens so far, in memory that is taken once.

One tensor for all blocks: (blocks, 2, key/value heads, capacity, head width). What was not written is never read.
"""

import torch
from torch import Tensor


class Cache:
    """Room for `capacity_tokens` tokens of one sequence."""

    def __init__(self, shape: tuple[int, int, int], *, capacity_tokens: int, like: Tensor) -> None:
        """Take the memory.

        Args:
            shape: blocks, heads of keys and values, width of a head.
            capacity_tokens: how many tokens fit.
            like: a tensor on the right device, of the right dtype.
        """
        blocks, heads, width = shape
        self._all = torch.empty(blocks, 2, heads, capacity_tokens, width, dtype=like.dtype, device=like.device)
        self.keys = [self._all[block, 0] for block in range(blocks)]
        self.values = [self._all[block, 1] for block in range(blocks)]
        self.capacity_tokens = capacity_tokens

    @property
    def bytes(self) -> int:
        """Return the memory taken."""
        return self._all.nbytes

    def bytes_read(self, tokens: int) -> int:
        """Return how much one step reads that attends to so many tokens."""
        return self.bytes // self.capacity_tokens * tokens
