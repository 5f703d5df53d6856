"""Signs that flip without a float behind them: the gradient is gathered, and from time to time the worst signs turn.

    each step             push <- push - g / sqrt(mean g^2), entry by entry: Adam's step without momentum
    each `every` steps    flip the `share` of entries with the largest -push * sign, if that is positive; push <- 0

DBF's end-to-end tuning (Boza and Macko 2025, arXiv:2505.11076), after PV-tuning (Malinovskii et al. 2024,
arXiv:2405.14852). There a tenth of the linears takes part at a time and flips at each step of its turn; here all do.
"""

import math

import torch
from torch import Tensor, nn

_DECAY = 0.999  # of the mean square, as in Adam
_EPSILON = 1e-12  # a code's gradient is one of millions


class Flips(nn.Module):
    """What is gathered for one tensor of signs; all of it is in the state of the module."""

    push: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, signs: nn.Parameter, *, share: float, every: int) -> None:
        """Start with nothing gathered."""
        super().__init__()
        self.share, self.every = share, every
        self.register_buffer("push", torch.zeros_like(signs, requires_grad=False))
        self.register_buffer("square", torch.zeros_like(signs, requires_grad=False))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def take(self, signs: nn.Parameter) -> None:
        """Gather the gradient of the signs, if there is one, and flip them in place when it is time."""
        if signs.grad is None:
            return
        self.steps += 1
        steps = int(self.steps)
        self.square.mul_(_DECAY).addcmul_(signs.grad, signs.grad, value=1 - _DECAY)
        root = (self.square / (1 - _DECAY**steps)).sqrt_().add_(_EPSILON)
        self.push.addcdiv_(signs.grad, root, value=-1)
        if steps % self.every == 0:
            self._flip(signs)

    def _flip(self, signs: nn.Parameter) -> None:
        against = (self.push * signs).neg_().flatten()
        most, index = against.topk(math.ceil(self.share * signs.numel()))
        index = index[most > 0]
        signs.view(-1)[index] = -signs.view(-1)[index]
        self.push.zero_()
