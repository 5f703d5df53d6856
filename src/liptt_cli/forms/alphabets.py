"""The alphabets of codes: which levels an index stands for, and what one index costs.

sign    -1, +1            bit     0, 1            trit    -1, 0, +1 (stored five to a byte, in base 3)
uint k  0 .. 2^k - 1      int k   -2^(k-1) .. 2^(k-1) - 1            k = 2 .. 8
"""

from dataclasses import dataclass
from typing import Literal

Alphabet = Literal[
    "sign", "bit", "trit",
    "int2", "int3", "int4", "int5", "int6", "int7", "int8",
    "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8",
]  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """Evenly spaced levels: index i stands for `first + step * i`."""

    first: int
    step: int
    count: int

    @property
    def bits(self) -> int:
        """Return the width of an index."""
        return (self.count - 1).bit_length()

    @property
    def last(self) -> int:
        """Return the largest level."""
        return self.first + self.step * (self.count - 1)


ALPHABETS: dict[Alphabet, Levels] = {
    "sign": Levels(-1, 2, 2),
    "bit": Levels(0, 1, 2),
    "trit": Levels(-1, 1, 3),
    "int2": Levels(-2, 1, 4),
    "int3": Levels(-4, 1, 8),
    "int4": Levels(-8, 1, 16),
    "int5": Levels(-16, 1, 32),
    "int6": Levels(-32, 1, 64),
    "int7": Levels(-64, 1, 128),
    "int8": Levels(-128, 1, 256),
    "uint2": Levels(0, 1, 4),
    "uint3": Levels(0, 1, 8),
    "uint4": Levels(0, 1, 16),
    "uint5": Levels(0, 1, 32),
    "uint6": Levels(0, 1, 64),
    "uint7": Levels(0, 1, 128),
    "uint8": Levels(0, 1, 256),
}
