"""How the next token is chosen: what a model's `generation_config.json` asks for, and transformers' own defaults.

    penalty on tokens seen -> temperature -> the k likeliest -> the likeliest up to a share p -> one of them by chance

in transformers' order and with its way to draw, so that a seed gives the same text there. Temperature 0 takes the
likeliest. A configuration that asks for anything else is told apart by `why_not`, never ignored.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_DEFAULT_TOP_K = 50  # of transformers, where a model does not say
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "assistant_early_exit": (None,),
    "bad_words_ids": (None,),
    "begin_suppress_tokens": (None,),
    "constraints": (None,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0),
    "exponential_decay_length_penalty": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "guidance_scale": (None, 1.0),
    "max_time": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "min_p": (None, 0.0),
    "no_repeat_ngram_size": (None, 0),
    "num_beams": (None, 1),
    "penalty_alpha": (None,),
    "prompt_lookup_num_tokens": (None,),
    "renormalize_logits": (None, False),
    "sequence_bias": (None,),
    "stop_strings": (None,),
    "suppress_tokens": (None,),
    "token_healing": (None, False),
    "top_h": (None,),
    "typical_p": (None, 1.0),
    "use_mtp": (None, False),
    "watermarking_config": (None,),
}


@dataclass(frozen=True)
class Sampling:
    """How to choose; `ends` are the tokens that end a text."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    ends: frozenset[int] = frozenset()

    @classmethod
    def of(cls, generation_config: Any, *, temperature: float) -> "Sampling":
        """Read a model's generation configuration; the temperature is the caller's."""
        found = generation_config
        top_k = _DEFAULT_TOP_K if found.top_k is None else found.top_k
        ends = found.eos_token_id
        return cls(
            temperature,
            top_k=int(top_k),
            top_p=1.0 if found.top_p is None else float(found.top_p),
            repetition_penalty=1.0 if found.repetition_penalty is None else float(found.repetition_penalty),
            ends=frozenset(ends if isinstance(ends, list) else () if ends is None else (ends,)),
        )

    def choose(
        self, logits: Float[Tensor, " vocabulary"], *, seen: list[int], generator: torch.Generator | None = None
    ) -> int:
        """Return the next token.

        Args:
            logits: what the model says of it.
            seen: the tokens before it, prompt included.
            generator: the source of chance; None: torch's own.
        """
        if self.repetition_penalty != 1.0:
            logits = _penalised(logits, torch.tensor(seen, device=logits.device), self.repetition_penalty)
        if self.temperature == 0.0:
            return int(torch.argmax(logits))
        kept = _nucleus(_likeliest(logits / self.temperature, self.top_k), self.top_p)
        return int(torch.multinomial(torch.softmax(kept, dim=-1), 1, generator=generator))


def why_not(generation_config: Any) -> str | None:
    """Return what a generation configuration asks for beyond this, None if nothing."""
    asked = [
        f"{name}={getattr(generation_config, name)!r}"
        for name, neutral in _NEUTRAL.items()
        if getattr(generation_config, name, None) not in neutral
    ]
    return f"generation_config.json asks for {', '.join(asked)}" if asked else None


def _penalised(logits: Tensor, seen: Int[Tensor, " tokens"], penalty: float) -> Tensor:
    scores = logits[seen]
    return logits.scatter(0, seen, torch.where(scores < 0, scores * penalty, scores / penalty))


def _likeliest(logits: Tensor, count: int) -> Tensor:
    if not 0 < count < logits.shape[0]:
        return logits
    return logits.masked_fill(logits < torch.topk(logits, count).values[-1], float("-inf"))


def _nucleus(logits: Tensor, share: float) -> Tensor:
    """Drop the least likely tokens that together have at most 1 - share."""
    if share >= 1.0:
        return logits
    ordered, places = torch.sort(logits)
    dropped = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - share
    dropped[-1] = False
    return logits.masked_fill(dropped.scatter(0, places, dropped), float("-inf"))
