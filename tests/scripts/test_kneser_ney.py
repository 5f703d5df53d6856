"""The Kneser-Ney yardstick: probabilities that sum to one, a case worked by hand, windows that look inside only."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from kneser_ney import fitted_discounts, train_kneser_ney, window_nats


def stream(count: int, vocabulary: int) -> np.ndarray:
    """Return words of which each depends on the one before."""
    generator = np.random.default_rng(0)
    steps = generator.geometric(0.4, size=count)
    return (np.cumsum(steps) % vocabulary).astype(np.uint16)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_probabilities_of_all_words_sum_to_one_in_seen_and_unseen_contexts(length: int) -> None:
    """After a frequent context, and after one of words that never occur together or at all."""
    vocabulary = 12
    model = train_kneser_ney(stream(500, vocabulary - 1), vocabulary=vocabulary)
    for context in ([3, 4], [vocabulary - 1, 0], [vocabulary - 1, vocabulary - 1]):
        words = np.array([[*context, word] for word in range(vocabulary)])[:, -length:]
        probability = model.probability(words)
        assert (probability > 0).all()
        assert probability.sum() == pytest.approx(1.0, abs=1e-12)


def test_bigram_worked_by_hand() -> None:
    """Stream a b a b a c over {a, b, c, d}: too few n-grams for fitted discounts, so all are one half."""
    model = train_kneser_ney(np.array([0, 1, 0, 1, 0, 2]), vocabulary=4, order=2)
    below_b = 0.5 / 3 + (3 * 0.5 / 3) / 4  # b follows one of the three words that follow something
    expected = (2 - 0.5) / 3 + (2 * 0.5 / 3) * below_b  # a b was seen twice, a three times, with two successors
    assert model.probability(np.array([[0, 1]]))[0] == pytest.approx(expected, abs=1e-12)


def test_discounts_follow_chen_and_goodman() -> None:
    """Forty n-grams seen once, ten twice, five thrice, four four times: Y is 2/3."""
    counts = np.repeat([1, 2, 3, 4], [40, 10, 5, 4])
    assert fitted_discounts(counts) == pytest.approx([1 - 4 / 3 / 4, 2 - 2 / 2, 3 - 8 / 3 * 4 / 5])


def test_windows_use_context_inside_the_window_only() -> None:
    """A window's first prediction has one word of context, the later ones two, and no word outside matters."""
    tokens = stream(400, 9)
    model = train_kneser_ney(tokens, vocabulary=9)
    nats = window_nats(model, tokens[100:108])
    words = tokens[100:108].astype(np.int64)
    alone = [-np.log(model.probability(words[None, max(0, stop - 2) : stop + 1])[0]) for stop in range(1, 8)]
    assert nats == pytest.approx(alone)
    assert window_nats(model, tokens[:2]) == pytest.approx(-np.log(model.probability(words[None, :2] * 0 + tokens[:2])))


def test_more_context_predicts_a_dependent_stream_better() -> None:
    """On held-out words of the same source a bigram beats a unigram clearly."""
    tokens = stream(6000, 16)
    losses = [
        window_nats(train_kneser_ney(tokens[:5000], vocabulary=16, order=order), tokens[5000:]).mean()
        for order in (1, 2)
    ]
    assert losses[1] < losses[0] - 0.5


def test_too_short_or_too_wide_is_refused() -> None:
    """Neither an empty count nor an overflow goes unnoticed."""
    with pytest.raises(ValueError, match="at least 3 tokens"):
        train_kneser_ney(np.array([1, 2]), vocabulary=4)
    with pytest.raises(ValueError, match="do not fit 63 bits"):
        train_kneser_ney(np.arange(9), vocabulary=60_000, order=4)
