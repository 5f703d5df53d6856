"""What an expert saw that saw too little: its own moments, and for the rest the mean over all experts of its block.

    C_e  <-  s C_e + (1 - s) C,      s = min(1, tokens_e / columns),      C = sum_e tokens_e C_e / sum_e tokens_e

A second moment of fewer tokens than columns is singular whatever the tokens are, and a solver that trusts it spends
nothing on the directions that it did not see. The tokens that went to other experts of the block are the next best
guess: they come from the same stream. An expert that saw none takes their moments as they are. The mean counts each
token as often as it was sent to an expert, so a thin expert's noise weighs as little in it as it should.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from liptt_cli.algebra.metric import Seen


def filled_up(seen: Sequence[Seen]) -> list[Seen]:
    """Return what the experts of a block saw at one place, the thin ones filled up; `tokens` stay their own."""
    everything = reduce(add, seen)
    return [_mixed(own, everything) for own in seen]


def own_share(tokens: int, *, columns: int) -> float:
    """Return the weight of an expert's own moments, 0..1."""
    return min(1.0, tokens / columns)


def _mixed(own: Seen, everything: Seen) -> Seen:
    share = own_share(own.tokens, columns=len(own.square))
    if share == 1 or everything.tokens == 0:
        return own
    if share == 0:
        return replace(everything, tokens=0)
    gram = None
    if own.gram is not None and everything.gram is not None:
        gram = share * own.gram + (1 - share) * everything.gram
    return replace(own, gram=gram, square=share * own.square + (1 - share) * everything.square)
