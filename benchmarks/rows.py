"""The results of the benchmark as rows, and the verdicts that they give; torch-free, like all that reads results.

Every cell of `cells.py` has its row, also one that is missing or failed. The verdict asked for: LipTT's excess over
dense is at most half of that of the better baseline of equal or more honest bits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import DENSE, Cell, Group, all_cells
from setting import read_result

CORPORA: Mapping[Group, tuple[str, ...]] = {"reference": ("stdlib", "valid"), "stories260K": ("tinystories",)}
TARGET_SHARE = 0.5
_BASELINES = ("sign", "tt-svd-sign")
_LIPTT = ("liptt-ptq", "liptt-onestep")
_BITS_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Row:
    """A cell with its result; `found` is None where nothing was measured."""

    cell: Cell
    found: Mapping[str, Any] | None

    @property
    def whole(self) -> bool:
        """Tell whether it was measured."""
        return self.found is not None and self.found["status"] == "ok"

    @property
    def bits(self) -> float:
        """Return its honest bits."""
        return float(self.get("price", "bits_per_weight", default=float("nan")))

    def get(self, *keys: str, default: Any = None) -> Any:
        """Return a figure of the result by its keys."""
        found: Any = self.found
        for key in keys:
            if not isinstance(found, Mapping) or found.get(key) is None:
                return default
            found = found[key]
        return found

    def excess(self, corpus: str) -> float | None:
        """Return its nats above dense on a corpus."""
        found: float | None = self.get("corpora", corpus, "excess")
        return found

    def label(self) -> str:
        """Return what the row is called."""
        parts = [self.cell.method]
        if not self.cell.lipschitz:
            parts.append("without the Lipschitz term")
        if self.cell.calibration == "self":
            parts.append("on `self`")
        return " ".join(parts)


@dataclass(frozen=True)
class Verdict:
    """A LipTT row beside the better baseline of equal or more bits, on one corpus."""

    row: Row
    baseline: Row
    corpus: str

    @property
    def share(self) -> float:
        """Return our excess as a share of the baseline's; infinite if that has none."""
        theirs = self.baseline.excess(self.corpus) or 0.0
        return (self.row.excess(self.corpus) or 0.0) / theirs if theirs > 0 else math.inf

    @property
    def answer(self) -> str:
        """Return yes or no."""
        return "yes" if self.share <= TARGET_SHARE else "no"

    def __str__(self) -> str:
        """Return both excesses in a line."""
        return (
            f"{self.row.label()} at {self.row.bits:.3f} bits on {self.corpus}, {self.row.excess(self.corpus):.3f} nats "
            f"against {self.baseline.excess(self.corpus):.3f} of {self.baseline.label()} at {self.baseline.bits:.3f} "
            f"bits, {self.share:.0%}"
        )


def read_rows(results: Path, group: Group) -> list[Row]:
    """Return a group's rows without its trials, by honest bits from dense down, the missing ones in their place."""
    rows = [
        Row(cell, read_result(results, cell.key)) for cell in all_cells() if cell.group == group and cell.trial is None
    ]
    order = (DENSE, "dense-tuned", *_BASELINES, *_LIPTT)
    return sorted(rows, key=lambda row: order.index(row.cell.method))


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Return a verdict for each LipTT row and corpus that has a baseline of equal or more bits."""
    found = []
    for row in rows:
        if row.whole and row.cell.method in _LIPTT and row.cell.lipschitz:
            rivals = [each for each in rows if each.whole and each.cell.method in _BASELINES and _affords(each, row)]
            for corpus in CORPORA[row.cell.group]:
                beside = [rival for rival in rivals if rival.excess(corpus) is not None]
                if beside and row.excess(corpus) is not None:
                    found.append(
                        Verdict(row, min(beside, key=lambda rival: rival.get("corpora", corpus, "excess")), corpus)
                    )
    return found


def _affords(rival: Row, row: Row) -> bool:
    return rival.bits >= row.bits - _BITS_TOLERANCE
