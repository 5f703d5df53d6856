"""Tokens one after the other, until the text ends or enough were made."""

from collections.abc import Iterator

import torch

from liptt_cli.decoding.decoder import Decoder
from liptt_cli.decoding.sampling import Sampling


def generate(decoder: Decoder, ids: list[int], *, new_tokens: int, sampling: Sampling, seed: int = 0) -> Iterator[int]:
    """Yield the tokens that go on from a prompt, at most `new_tokens`; the one that ends the text is the last.

    Args:
        decoder: it has room for all of them.
        ids: the prompt.
        new_tokens: how many at most.
        sampling: how each is chosen.
        seed: of the chance.
    """
    generator = torch.Generator().manual_seed(seed)
    seen = list(ids)
    logits = decoder.prefill(ids)
    while True:
        token = sampling.choose(logits.cpu(), seen=seen, generator=generator)
        yield token
        seen.append(token)
        if token in sampling.ends or len(seen) == len(ids) + new_tokens:
            return
        logits = decoder.step(token)
