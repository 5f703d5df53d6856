"""The numbers of speed that are asked for: what was measured, what it must be and what it should be."""

from dataclasses import asdict, dataclass
from typing import Any

from liptt_cli.metrics.speed import Spread


@dataclass(frozen=True)
class Target:
    """One number; with `at_most` it is the better the smaller."""

    what: str
    measured: Spread
    must: float
    aim: float
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Say whether it is where it should be, where it must be, or missed."""
        factor = -1 if self.at_most else 1
        got = factor * self.measured.median
        return "aim" if got >= factor * self.aim else "must" if got >= factor * self.must else "missed"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the verdict."""
        return {**asdict(self), "verdict": self.verdict}

    def line(self) -> str:
        """Return it as a line to print."""
        spread = f"({self.measured.low:.3g} to {self.measured.high:.3g})"
        told = f"must {self.must:g}, aim {self.aim:g}: {self.verdict}"
        return f"{self.what:60} {self.measured.median:8.3g} {spread:20} {told}"
