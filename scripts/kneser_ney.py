"""An interpolated, modified Kneser-Ney n-gram in plain numpy: the yardstick of `judge_reference.py`.

Chen & Goodman 1999 (Computer Speech and Language 13): with c the count of an n-gram at the highest order and, below it,
the number of different words seen before it,

    P(w | h) = max(c(h w) - D(c), 0) / c(h) + (sum of all D spent in h) / c(h) * P(w | h without its first word)

down to the uniform distribution; D(1), D(2), D(3 and more) of each order follow from its numbers of n-grams seen one
to four times (where one of the four is zero, every D is 1/2). An n-gram is one integer in base `vocabulary`, so that a
level is a sorted array and a look-up a binary search. N-grams run across document borders, as the model's windows do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """All n-grams of one order, packed and sorted, and what is left in each context for the order below."""

    grams: Integers
    discounted: Floats
    contexts: Integers
    totals: Floats
    left_over: Floats


@dataclass(frozen=True)
class KneserNey:
    """The levels from one word up to `order` words."""

    vocabulary: int
    levels: tuple[Level, ...]

    def probability(self, words: Integers) -> Floats:
        """Return P(last word | the words before it) for each row of `words`, of at most `order` columns."""
        probability = np.full(len(words), 1.0 / self.vocabulary)
        for length, level in enumerate(self.levels[: words.shape[1]], start=1):
            probability = _interpolate(level, _pack(words[:, -length:], self.vocabulary), self.vocabulary, probability)
        return probability


def train_kneser_ney(tokens: NDArray[np.integer], *, vocabulary: int, order: int = 3) -> KneserNey:
    """Count the stream `tokens` once and return the model."""
    if len(tokens) < order:
        raise ValueError(f"{len(tokens)} tokens hold no {order}-gram; give at least {order} tokens")
    if vocabulary**order >= 2**63:
        raise ValueError(f"{order}-grams over {vocabulary} words do not fit 63 bits; lower the order")
    packed = np.zeros(len(tokens) - order + 1, dtype=np.int64)
    for start in range(order):
        packed *= vocabulary
        packed += tokens[start : start + len(packed)]
    grams, counts = np.unique(packed, return_counts=True)
    levels = [_level(grams, counts, vocabulary)]
    for length in range(order - 1, 0, -1):
        grams, counts = np.unique(grams % vocabulary**length, return_counts=True)
        levels.insert(0, _level(grams, counts, vocabulary))
    return KneserNey(vocabulary, tuple(levels))


def window_nats(model: KneserNey, window: NDArray[np.integer]) -> Floats:
    """Return -ln P of every token of a window but its first, each seen from inside the window only."""
    words = np.asarray(window, dtype=np.int64)
    order = len(model.levels)
    short = [model.probability(words[None, : stop + 1]) for stop in range(1, min(order - 1, len(words)))]
    full = np.lib.stride_tricks.sliding_window_view(words, order) if len(words) >= order else np.empty((0, order), int)
    return -np.log(np.concatenate([*short, model.probability(full)]))


def fitted_discounts(counts: Integers) -> Floats:
    """Return D(1), D(2), D(3 and more) for the counts of one level."""
    once, twice, thrice, four = (float(n) for n in np.bincount(counts, minlength=5)[1:5])
    if 0.0 in (once, twice, thrice, four):
        return np.full(3, 0.5)
    share = once / (once + 2 * twice)
    discounts = [1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice]
    return np.clip(discounts, 0.0, [1.0, 2.0, 3.0])


def _level(grams: Integers, counts: Integers, vocabulary: int) -> Level:
    spent = fitted_discounts(counts)[np.minimum(counts, 3) - 1]
    contexts, starts = np.unique(grams // vocabulary, return_index=True)
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    return Level(grams, counts - spent, contexts, totals, np.add.reduceat(spent, starts) / totals)


def _interpolate(level: Level, grams: Integers, vocabulary: int, below: Floats) -> Floats:
    gram, gram_seen = _find(level.grams, grams)
    context, context_seen = _find(level.contexts, grams // vocabulary)
    own = np.where(gram_seen, level.discounted[gram], 0.0) / level.totals[context]
    return np.where(context_seen, own + level.left_over[context] * below, below)


def _find(keys: Integers, wanted: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def _pack(words: Integers, vocabulary: int) -> Integers:
    packed = np.zeros(len(words), dtype=np.int64)
    for column in words.T:
        packed = packed * vocabulary + column
    return packed
