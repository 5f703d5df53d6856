"""Windows shared out among corpora: sums, remainders, and an order that mixes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from liptt_cli.calibration.mixes import mixed, shared_out


@pytest.mark.parametrize(
    ("windows", "shares", "expected"),
    [
        (8, {"a": 0.5, "b": 0.5}, {"a": 4, "b": 4}),
        (7, {"a": 0.5, "b": 0.5}, {"a": 4, "b": 3}),
        (10, {"a": 0.72, "b": 0.28}, {"a": 7, "b": 3}),
        (4, {"a": 1.0, "b": 0.0}, {"a": 4}),
        (1, {"a": 0.4, "b": 0.6}, {"b": 1}),
    ],
)
def test_shares_of_windows(windows: int, shares: dict[str, float], expected: dict[str, int]):
    assert shared_out(windows, shares) == expected


@given(st.integers(1, 500), st.lists(st.integers(1, 99), min_size=1, max_size=5))
def test_each_corpus_is_within_one_window_of_its_share(windows: int, parts: list[int]):
    shares = {str(number): part / sum(parts) for number, part in enumerate(parts)}
    found = shared_out(windows, shares)
    assert sum(found.values()) == windows
    assert all(abs(found.get(name, 0) - share * windows) < 1 + 1e-9 for name, share in shares.items())


def test_the_order_is_seeded_and_mixes():
    parts = [torch.zeros(16, 2, dtype=torch.int64), torch.ones(16, 2, dtype=torch.int64)]
    first, again = (mixed(parts, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert 0 < int(first[:16, 0].sum()) < 16 and int(first.sum()) == 32


def test_one_corpus_keeps_its_order():
    alone = torch.arange(6).reshape(3, 2)
    assert torch.equal(mixed([alone], generator=torch.Generator().manual_seed(0)), alone)
