"""One block of the decoder: norm, attention, norm, gated feed-forward, on the rows of one sequence.

The modules are the model's own; only what is asked of them at every step is looked up beforehand.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor

from liptt_cli.decoding.rotary import turned
from liptt_cli.decoding.shared_input import alone, together


class Norm:
    """`x / rms(x) * weight`, computed in float32; a single row on a CPU without the seven operations of torch's own."""

    def __init__(self, module: Any) -> None:
        """Take the weight and epsilon of a module."""
        weight: Tensor = module.weight.detach()
        self._weight = weight.float() if weight.device.type == "cpu" else weight
        self._shape = tuple(self._weight.shape)
        self._epsilon: float = module.variance_epsilon
        self._short = weight.device.type == "cpu"

    def __call__(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Return x normalised over its last axis."""
        if self._short and x.shape[0] == 1 and x.dim() == 2:
            mean_square = float(torch.dot(x[0], x[0])) / x.shape[1]
            return torch.mul(x, self._weight).mul_((mean_square + self._epsilon) ** -0.5)
        return F.rms_norm(x, self._shape, self._weight, self._epsilon)


class Block:
    """Attention and feed-forward of one block; it writes its keys and values into the cache that it is given."""

    def __init__(self, module: Any, *, window_tokens: int | None) -> None:
        """Take a block of the model; its dense linears with a shared input are joined, in place."""
        attention, feed = module.self_attn, module.mlp
        self._first_norm, self._second_norm = Norm(module.input_layernorm), Norm(module.post_attention_layernorm)
        self._queries_keys_values = together([attention.q_proj, attention.k_proj, attention.v_proj])
        self._gate_up = together([feed.gate_proj, feed.up_proj])
        self._output, self._down = alone(attention.o_proj), alone(feed.down_proj)
        self._query_norm = Norm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self._key_norm = Norm(attention.k_norm) if hasattr(attention, "k_norm") else None
        self._width, self._scaling = attention.head_dim, attention.scaling
        self._window = window_tokens

    def __call__(
        self,
        x: Float[Tensor, "tokens hidden"],
        *,
        start: int,
        at: tuple[Tensor, Tensor],
        cache: tuple[Float[Tensor, "heads capacity width"], Float[Tensor, "heads capacity width"]],
    ) -> Float[Tensor, "tokens hidden"]:
        """Return the hidden states of tokens start.. behind the block. Works in place on x.

        Args:
            x: hidden states of consecutive tokens.
            start: the position of the first one; those before it are in the cache.
            at: their cosines and sines.
            cache: keys and values; the tokens' own are written there.
        """
        x += self._output(self._attended(self._first_norm(x), start, at, cache))
        gate, up = self._gate_up(self._second_norm(x))
        x += self._down(F.silu(gate, inplace=True).mul_(up))
        return x

    def _attended(self, x: Tensor, start: int, at: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor]) -> Tensor:
        tokens, stop = x.shape[0], start + x.shape[0]
        queries, keys, values = (part.view(tokens, -1, self._width) for part in self._queries_keys_values(x))
        if self._query_norm is not None and self._key_norm is not None:
            queries, keys = self._query_norm(queries), self._key_norm(keys)
        cache[0][:, start:stop] = turned(keys, at).transpose(0, 1)
        cache[1][:, start:stop] = values.transpose(0, 1)
        first = 0 if self._window is None else max(0, start + 1 - self._window)
        seen = cache[0][:, first:stop], cache[1][:, first:stop]
        turned_queries = turned(queries, at)
        if tokens == 1:
            return _of_one(turned_queries[0], seen, self._scaling)
        return self._of_many(turned_queries, seen, start - first)

    def _of_many(self, queries: Tensor, seen: tuple[Tensor, Tensor], before: int) -> Tensor:
        """Attend with several tokens, `before` tokens of what is seen lying ahead of them."""
        tokens, stop = queries.shape[0], seen[0].shape[1]
        plain = before == 0 and (self._window is None or stop <= self._window)
        found = F.scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            seen[0][None],
            seen[1][None],
            attn_mask=None if plain else _mask(tokens, before, self._window, queries.device),
            is_causal=plain,
            scale=self._scaling,
            enable_gqa=True,
        )
        return found[0].transpose(0, 1).reshape(tokens, -1)


def _of_one(queries: Float[Tensor, "heads width"], seen: tuple[Tensor, Tensor], scaling: float) -> Tensor:
    """Attend with one token: heads that share keys are the columns of one product, keys being read as they lie."""
    keys, values = seen
    grouped = queries.mul(scaling).view(keys.shape[0], -1, queries.shape[1])
    shares = torch.softmax(torch.bmm(keys, grouped.transpose(1, 2)).transpose(1, 2), dim=-1)
    return torch.bmm(shares, values).view(1, -1)


def _mask(tokens: int, before: int, window: int | None, device: torch.device) -> Tensor:
    """Return what each token may see, (tokens, before + tokens): nothing behind it, nothing beyond its window."""
    allowed = torch.ones(tokens, before + tokens, dtype=torch.bool, device=device).tril(before)
    return allowed if window is None else allowed.triu(before - window + 1)
