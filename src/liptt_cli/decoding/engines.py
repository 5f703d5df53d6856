"""What makes tokens of a model, as it is measured: the lean loop, and transformers' own forward with its cache.

Both read a prompt and go on greedily. Transformers is given its best case: its forward is called step by step, without
what `generate` does besides.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.decoding.architecture import why_not
from liptt_cli.decoding.decoder import Decoder
from liptt_cli.kernels.dispatch import describe, exact
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.packed_table import bytes_a_token, output_dtype


class Engine(Protocol):
    """One model, ready to make tokens."""

    def prefill(self, ids: list[int]) -> int:
        """Forget everything, read a prompt, and return the likeliest token."""
        ...

    def step(self, token: int) -> int:
        """Read one token, and return the likeliest that follows."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what it is, and how many bytes it reads for a token: of weights, and of keys and values."""
        ...

    def agreement(self, prompt: list[int], tokens: list[int]) -> dict[str, Any] | None:
        """Return how its tokens and logits compare with transformers' exact ones; None if it is that itself."""
        ...


class Lean:
    """The lean loop."""

    def __init__(self, model: Any, *, capacity_tokens: int) -> None:
        """Take a loaded model that the loop knows."""
        self._model = model
        self._decoder = Decoder(model, capacity_tokens=capacity_tokens)

    def prefill(self, ids: list[int]) -> int:
        """Read a prompt."""
        return int(torch.argmax(self._decoder.prefill(ids)))

    def step(self, token: int) -> int:
        """Read one token."""
        return int(torch.argmax(self._decoder.step(token)))

    def facts(self) -> dict[str, Any]:
        """Return what it is."""
        cache = self._decoder.cache
        return {"engine": "lean", "cache_bytes_per_token": cache.bytes_read(1), **_facts(self._model)}

    def agreement(self, prompt: list[int], tokens: list[int]) -> dict[str, Any]:
        """Compare with transformers on the torch meaning, both reading the same tokens."""
        found = torch.stack([self._decoder.prefill(prompt), *map(self._decoder.step, tokens[:-1])])
        with exact(), torch.inference_mode():
            ids = torch.tensor([[*prompt, *tokens[:-1]]], device=self._model.device)
            expected = self._model(ids, use_cache=False, logits_to_keep=len(tokens)).logits[0].float()
        return compare_logits(found.cpu(), expected.cpu(), tokens)


class Transformers:
    """The forward of transformers, and the cache that it makes by itself."""

    def __init__(self, model: Any, *, reason: str | None = None) -> None:
        """Take a loaded model, and why the lean loop does not run it if it was asked to."""
        self._model = model
        self._reason = reason
        self._cache: Any = None

    def prefill(self, ids: list[int]) -> int:
        """Read a prompt."""
        self._cache = None
        return self._read(ids)

    def step(self, token: int) -> int:
        """Read one token."""
        return self._read([token])

    def facts(self) -> dict[str, Any]:
        """Return what it is."""
        held = 0 if self._cache is None else sum(_bytes(layer) for layer in self._cache.layers)
        tokens = 1 if self._cache is None else max(1, self._cache.get_seq_length())
        why = {} if self._reason is None else {"why_not_lean": self._reason}
        return {"engine": "transformers", "cache_bytes_per_token": held // tokens, **why, **_facts(self._model)}

    def agreement(self, prompt: list[int], tokens: list[int]) -> None:
        """Return nothing: it is what others are compared with."""
        return

    def _read(self, ids: list[int]) -> int:
        given = torch.tensor([ids], device=self._model.device)
        with torch.inference_mode():
            made = self._model(given, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = made.past_key_values
        return int(torch.argmax(made.logits[0, -1]))


def take_engine(model: Any, *, lean: bool, capacity_tokens: int) -> Lean | Transformers:
    """Return the lean loop if it is wanted and knows the model, else transformers, which then says why."""
    reason = why_not(model) if lean else None
    return (
        Lean(model, capacity_tokens=capacity_tokens) if lean and reason is None else Transformers(model, reason=reason)
    )


def compare_logits(
    found: Float[Tensor, "tokens vocabulary"], expected: Float[Tensor, "tokens vocabulary"], tokens: Sequence[int]
) -> dict[str, Any]:
    """Return how many tokens are the likeliest by the expected logits too, and how far the logits are apart."""
    likeliest = expected.argmax(dim=-1).tolist()
    return {
        "tokens": len(tokens),
        "agreeing": sum(one == other for one, other in zip(tokens, likeliest, strict=True)),
        "largest_difference": (found - expected).abs().max().item(),
        "relative_difference": ((found - expected).norm() / expected.norm()).item(),
    }


def _facts(model: Any) -> dict[str, Any]:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    read = {id(part): part.nbytes for part in model.parameters()}
    if head is None or head.weight is not embedding.weight:
        read[id(embedding.weight)] = bytes_a_token(embedding)
    packed = [module for module in model.modules() if isinstance(module, PackedLinear) and module is not head]
    rounded = describe(head.form, head.weight.device.type) if isinstance(head, PackedLinear) else None
    routes = Counter(describe(module.form, module.weight.device.type) for module in packed)
    return {
        "dtype": str(output_dtype(embedding)).removeprefix("torch."),
        "weight_bytes_per_token": sum(read.values()),
        "packed_linears": len(packed),
        "packed_head": None if rounded is None else {"name": rounded.name, "reason": rounded.reason},
        "kernels": [
            {"name": route.name, "reason": route.reason, "linears": count} for route, count in routes.most_common()
        ],
    }


def _bytes(layer: Any) -> int:
    return int(layer.keys.nbytes + layer.values.nbytes)
