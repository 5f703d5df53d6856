"""How much of a model's blocks is compressed, and what is not. Torch-free.

    coverage = weights of the linears that are compressed / weights of all matrices in the blocks

Vectors (norms, biases) do not count, nor do embeddings and head, which lie outside of the blocks.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

LEAST = 0.9
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_TOLD = 4

Named = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Coverage:
    """The weights that are compressed, and the matrices that are not, by name with their number of weights."""

    compressed: int
    left_out: Named

    @property
    def share(self) -> float:
        """Return the share of the blocks' matrices that is compressed, in 0..1."""
        return self.compressed / (self.compressed + sum(count for _, count in self.left_out))

    @property
    def is_low(self) -> bool:
        """Say whether so much is left out that the user should be warned."""
        return self.share < LEAST

    def kinds(self) -> dict[str, int]:
        """Return the weights left out by kind of matrix, most first; a `*` stands for numbers of blocks and experts."""
        found: dict[str, int] = {}
        for name, count in self.left_out:
            kind = _NUMBER.sub("*", name)
            found[kind] = found.get(kind, 0) + count
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def told(self) -> str:
        """Return it as a sentence."""
        total, kinds = self.compressed + sum(count for _, count in self.left_out), self.kinds()
        named = [f"{kind} ({count / total:.2%})" for kind, count in list(kinds.items())[:_TOLD]]
        more = [f"{len(kinds) - _TOLD} more"] if len(kinds) > _TOLD else []
        dense = f"; left dense: {', '.join(named + more)}" if named else ""
        return f"{self.share:.1%} of the weights of the blocks' matrices are compressed{dense}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for a JSON file."""
        return {"share": self.share, "left_out": self.kinds(), "told": self.told()}


def named(matrices: Iterable[tuple[str, int]]) -> Named:
    """Return matrices in order of their names."""
    return tuple(sorted(matrices))
