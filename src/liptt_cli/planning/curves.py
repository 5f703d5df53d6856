"""Error curves: what a form of any size would cost, from short fits at a few.

Between measured points the logarithm of the error is linear in bits per weight. Beyond the first and the last
point it goes on with the slope of the interval next to it, and a form is offered only if it lies within one such
interval of a measured one. A larger form never counts as worse: a point above its predecessor is lowered to it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

_LEAST_ERROR = 1e-12


@dataclass(frozen=True)
class Curve:
    """Errors at ascending bits per weight."""

    bits: tuple[float, ...]
    logs: tuple[float, ...]

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> "Curve":
        """Return the curve of (bits, error) points, at least one, in any order."""
        bits, logs, least = [], [], float("inf")
        for at, error in sorted(points):
            least = min(least, log(max(error, _LEAST_ERROR)))
            bits.append(at)
            logs.append(least)
        return cls(tuple(bits), tuple(logs))

    def error(self, bits: float) -> float:
        """Return the error at any bits per weight."""
        if len(self.bits) == 1:
            return exp(self.logs[0])
        right = min(max(bisect_right(self.bits, bits), 1), len(self.bits) - 1)
        low, high = self.bits[right - 1], self.bits[right]
        slope = (self.logs[right] - self.logs[right - 1]) / (high - low)
        return exp(self.logs[right - 1] + slope * (bits - low))


def reach(bits: Sequence[float]) -> tuple[float, float]:
    """Return the least and most bits of forms offered beside these measured ones, ascending: one interval beyond."""
    if len(bits) == 1:
        return bits[0], bits[0]
    return 2 * bits[0] - bits[1], 2 * bits[-1] - bits[-2]
