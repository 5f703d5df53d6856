"""The lean loop: a prompt in one go, then token by token, over a static cache, with no Python but the loop over blocks.

It takes a model loaded through the door, dense or packed, and works on its modules: one sequence, no padding, no
generality. The stream between the linears is float32 on a CPU, whatever dtype the weights have: there, elementwise
work and attention in bfloat16 were measured slower. On other devices it has the weights' dtype.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.decoding.architecture import why_not, window_tokens
from liptt_cli.decoding.block import Block, Norm
from liptt_cli.decoding.cache import Cache
from liptt_cli.decoding.rotary import Rotary
from liptt_cli.decoding.shared_input import alone
from liptt_cli.errors import ConfigError
from liptt_cli.kernels.native import threads_to_ourselves
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.packed_table import output_dtype

CHUNK_TOKENS = 512


class Decoder:
    """One sequence of at most `capacity_tokens` tokens."""

    def __init__(self, model: Any, *, capacity_tokens: int, chunk_tokens: int = CHUNK_TOKENS) -> None:
        """Take a model; its dense linears with a shared input are joined, in place.

        Args:
            model: a causal language model of transformers, in eval mode.
            capacity_tokens: prompt and new tokens together.
            chunk_tokens: a longer prompt is read in pieces of so many tokens.

        Raises:
            ConfigError: if the model is not one of those that the loop knows; the message says why.
        """
        reason = why_not(model)
        if reason is not None:
            raise ConfigError(f"the lean loop does not run this model: {reason}; transformers does")
        config = model.config
        self._chunk = chunk_tokens
        self._embedding = model.get_input_embeddings()
        like = torch.empty(0, dtype=_stream_dtype(model), device=next(model.parameters()).device)
        with torch.inference_mode():
            self._rotary = Rotary(model.model.rotary_emb, positions=capacity_tokens, like=like)
            self._blocks = [
                Block(block, window_tokens=window_tokens(config, number))
                for number, block in enumerate(model.model.layers)
            ]
            self._norm, self._head = Norm(model.model.norm), alone(model.get_output_embeddings())
            width = model.model.layers[0].self_attn.head_dim
            shape = (len(self._blocks), config.num_key_value_heads, width)
            self.cache = Cache(shape, capacity_tokens=capacity_tokens, like=like)
        self._packed = any(isinstance(module, PackedLinear) for module in model.modules())
        self._dtype = like.dtype
        self._device = like.device
        self.tokens = 0

    def prefill(self, ids: list[int]) -> Float[Tensor, " vocabulary"]:
        """Forget everything, read a prompt, and return the float32 logits of what comes next."""
        if not ids:
            raise ValueError("a prompt of no tokens")
        self.tokens = 0
        with self._quietly():
            for start in range(0, len(ids), self._chunk):
                last = self._read(torch.tensor(ids[start : start + self._chunk], device=self._device))
            return self._logits(last[-1:])

    def step(self, token: int) -> Float[Tensor, " vocabulary"]:
        """Read one more token, and return the float32 logits of what comes next."""
        with self._quietly():
            return self._logits(self._read(torch.tensor([token], device=self._device)))

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Run without gradients and, where kernels have threads of their own, without torch's beside them."""
        with torch.inference_mode(), threads_to_ourselves() if self._packed else nullcontext():
            yield

    def _read(self, ids: Tensor) -> Float[Tensor, "tokens hidden"]:
        start, stop = self.tokens, self.tokens + ids.shape[0]
        if stop > self.cache.capacity_tokens:
            raise ValueError(f"{stop} tokens, but there is room for {self.cache.capacity_tokens}")
        at = self._rotary.at(start, stop)
        x: Tensor = self._embedding(ids).to(self._dtype)
        for block, keys, values in zip(self._blocks, self.cache.keys, self.cache.values, strict=True):
            x = block(x, start=start, at=at, cache=(keys, values))
        self.tokens = stop
        return x

    def _logits(self, last: Float[Tensor, "1 hidden"]) -> Float[Tensor, " vocabulary"]:
        return self._head(self._norm(last))[0].float()


def _stream_dtype(model: Any) -> torch.dtype:
    on_cpu = next(model.parameters()).device.type == "cpu"
    return torch.float32 if on_cpu else output_dtype(model.get_input_embeddings())
