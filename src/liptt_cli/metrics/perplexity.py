"""Mean nats per predicted token on windows of tokens, and their exponential, the perplexity.

    nats = - mean over scored tokens of log p(token | the tokens before it in its window)

With a stride below the window's length the windows overlap, and each scores only its last `stride` tokens,
so that every scored token has at least `window_tokens - stride` tokens before it; the first
`window_tokens - stride` tokens of the text are never scored. At the default, stride = window_tokens, windows
do not overlap and each scores all its tokens but the first, which has nothing before it. The standard error
is over windows, which is honest for windows that do not overlap and optimistic for those that do.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from liptt_cli.errors import DivergenceError


@dataclass(frozen=True)
class Perplexity:
    """The nats of a model on one corpus; `window_nats` pairs it with another model on the same windows."""

    corpus: str
    tokens: int
    nats: float
    standard_error: float | None
    window_tokens: int
    stride: int
    window_nats: list[float]

    @property
    def perplexity(self) -> float:
        """Return exp(nats); infinite where that overflows a float."""
        return math.exp(self.nats) if self.nats < 700 else math.inf

    def to_json(self) -> dict[str, object]:
        """Return all fields and the perplexity (null if infinite)."""
        return asdict(self) | {"perplexity": self.perplexity if math.isfinite(self.perplexity) else None}


@torch.no_grad()
def measure_perplexity(
    model: nn.Module,
    windows: Int[Tensor, "windows window_tokens"],
    *,
    stride: int | None = None,
    batch_windows: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Measure a model on windows, each scoring its last `stride` tokens (all but the first where that is all).

    Args:
        model: a causal language model of transformers; its training mode is put back afterwards.
        windows: rows of tokens; for a stride below their length, those of `overlapping`.
        stride: scored tokens at each window's end; None is the window's length.
        batch_windows: windows in one forward pass.
        progress: is told windows done and windows in all.

    Raises:
        DivergenceError: if a window's nats are not finite.
    """
    count, window_tokens = windows.shape
    stride = window_tokens if stride is None else stride
    scored = min(stride, window_tokens - 1)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    found: list[Tensor] = []
    for start in range(0, count, batch_windows):
        found.append(_window_nats(model, windows[start : start + batch_windows].to(device), scored=scored).cpu())
        if progress is not None:
            progress(min(start + batch_windows, count), count)
    model.train(training)
    nats = torch.cat(found)
    if not nats.isfinite().all():
        first = int((~nats.isfinite()).nonzero()[0])
        raise DivergenceError(
            f"window {first} of {count} costs {nats[first].item()} nats; the model's weights are broken."
        )
    error = float(nats.std() / math.sqrt(count)) if count > 1 else None
    return Perplexity("", count * scored, float(nats.mean()), error, window_tokens, stride, nats.tolist())


def overlapping(
    windows: Int[Tensor, "windows window_tokens"], *, stride: int
) -> Int[Tensor, "overlapping window_tokens"]:
    """Cut consecutive windows of one text again, so that each starts `stride` tokens after the one before."""
    return windows.flatten().unfold(0, windows.shape[1], stride).contiguous()


def _window_nats(model: nn.Module, tokens: Int[Tensor, "batch length"], *, scored: int) -> Float[Tensor, " batch"]:
    options = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    logits = model(input_ids=tokens, **options).logits[:, -scored - 1 : -1]
    targets = tokens[:, -scored:].to(logits.device)
    costs = [cross_entropy(row.float(), target, reduction="none") for row, target in zip(logits, targets, strict=True)]
    return torch.stack(costs).double().mean(dim=1)
