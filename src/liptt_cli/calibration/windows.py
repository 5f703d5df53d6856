"""Token windows: documents, or a model's own samples, as a matrix with one window a row.

Calibration takes a seeded sample of non-overlapping windows; evaluation takes every full window in the
order of the file. Data-free text (Liu et al. 2023, arXiv:2305.17888, section 2) is sampled from the
model itself at temperature 1, from the beginning-of-sequence token on.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from liptt_cli.calibration.corpora import Corpus
from liptt_cli.errors import CorpusError, IntegrityError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How much is sampled from a model, and from which seed."""

    windows: int
    window_tokens: int
    seed: int
    batch_windows: int = 16


def token_windows(
    documents: Sequence[str], tokenizer: Any, *, window_tokens: int, windows: int | None, seed: int
) -> Int[Tensor, "windows window_tokens"]:
    """Cut documents into windows of equal length, each document with its special tokens in front.

    Args:
        documents: texts, joined one after another.
        tokenizer: one of transformers'.
        window_tokens: tokens in a window.
        windows: how many, drawn with the seed from all there are in a shuffled order of documents; None
            takes all full windows in the order given.
        seed: of the order and the draw.

    Raises:
        CorpusError: if there are fewer tokens than that takes.
    """
    generator = torch.Generator().manual_seed(seed)
    order = list(range(len(documents)))
    if windows is not None:
        order = torch.randperm(len(documents), generator=generator).tolist()
    encoded = tokenizer([documents[place] for place in order], verbose=False)["input_ids"] if order else []
    stream = torch.tensor([token for document in encoded for token in document], dtype=torch.int64)
    full = stream.numel() // window_tokens
    wanted = 1 if windows is None else windows
    if full < wanted:
        raise CorpusError(_too_short(stream.numel(), full, window_tokens=window_tokens, wanted=wanted))
    cut = stream[: full * window_tokens].view(full, window_tokens)
    return cut if windows is None else cut[torch.randperm(full, generator=generator)[:windows]]


def corpus_windows(
    corpus: Corpus, tokenizer: Any, *, window_tokens: int, windows: int | None, seed: int
) -> Int[Tensor, "windows window_tokens"]:
    """Cut a corpus with `token_windows`; an error names the corpus."""
    try:
        return token_windows(corpus.documents, tokenizer, window_tokens=window_tokens, windows=windows, seed=seed)
    except CorpusError as error:
        raise CorpusError(f"{corpus.name}: {error}") from error


@torch.no_grad()
def sampled_from(
    model: nn.Module, tokenizer: Any, sampling: Sampling, progress: Progress | None = None
) -> Int[Tensor, "windows window_tokens"]:
    """Sample windows from a model at temperature 1, each starting with the beginning-of-sequence token.

    After an end-of-sequence token the next one is the beginning again, so that a window may hold several texts.
    """
    begin = _begin(tokenizer)
    end = tokenizer.eos_token_id
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(sampling.seed)
    training = model.training
    model.eval()
    rows: list[Tensor] = []
    for start in range(0, sampling.windows, sampling.batch_windows):
        count = min(sampling.batch_windows, sampling.windows - start)
        first = torch.full((count, 1), begin, dtype=torch.int64, device=device)
        rows.append(_continued(model, first, window_tokens=sampling.window_tokens, end=end, generator=generator))
        if progress is not None:
            progress(start + count, sampling.windows)
    model.train(training)
    return torch.cat(rows).cpu()


def _continued(
    model: nn.Module, first: Tensor, *, window_tokens: int, end: int | None, generator: torch.Generator
) -> Int[Tensor, "count window_tokens"]:
    """Sample on from first tokens, with the model's own cache of keys and values if it keeps one."""
    caches = "past_key_values" in inspect.signature(model.forward).parameters
    tokens, cache = [first], None
    while len(tokens) < window_tokens:
        if caches:
            output = model(input_ids=tokens[-1], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
        else:
            output = model(input_ids=torch.cat(tokens, dim=1))
        chances = output.logits[:, -1].float().softmax(dim=-1)
        if not chances.isfinite().all():
            raise IntegrityError(
                "the model's logits are not finite, so no text can be sampled from it; see its weights."
            )
        drawn = torch.multinomial(chances, num_samples=1, generator=generator)
        tokens.append(drawn if end is None else torch.where(tokens[-1] == end, first, drawn))
    return torch.cat(tokens, dim=1)


def _begin(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise CorpusError("self: the tokenizer has no beginning- or end-of-sequence token to start a sample from.")


def _too_short(tokens: int, full: int, *, window_tokens: int, wanted: int) -> str:
    return (
        f"{tokens} tokens make {full} windows of {window_tokens}, but {wanted} ({wanted * window_tokens} tokens) are "
        f"needed. Use more text, fewer windows, or window_tokens of at most {tokens // wanted}."
    )
