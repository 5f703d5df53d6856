"""Rotary positions: the tables as the model itself makes them, scaling included, and the turn as three operations.

turned = x * cos + halves_swapped(x) * sin,     the first half of sin being negated
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Rotary:
    """Cosines and signed sines of all positions, (positions, 1, width): one row serves all heads."""

    def __init__(self, embedding: Any, *, positions: int, like: Tensor) -> None:
        """Ask the model's own module, once.

        Args:
            embedding: it returns cosines and sines, (1, positions, width), for a tensor and position numbers.
            positions: how many.
            like: a tensor on the right device, of the right dtype.
        """
        cos, sin = embedding(like, torch.arange(positions, device=like.device)[None])
        self.half = cos.shape[-1] // 2
        self.cos = cos[0].unsqueeze(1).contiguous()
        self.sin = torch.cat([-sin[..., : self.half], sin[..., self.half :]], dim=-1)[0].unsqueeze(1).contiguous()

    def at(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the rows of some positions."""
        return self.cos[start:stop], self.sin[start:stop]


def turned(
    x: Float[Tensor, "tokens heads width"], at: tuple[Float[Tensor, "tokens 1 width"], Float[Tensor, "tokens 1 width"]]
) -> Float[Tensor, "tokens heads width"]:
    """Return queries or keys turned to their positions."""
    cos, sin = at
    return torch.addcmul(x * cos, torch.roll(x, x.shape[-1] // 2, -1), sin)
