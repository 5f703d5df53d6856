"""The results of the benchmark as rows, and the verdicts that they give; torch-free, like all that reads results.

Every cell of `cells.py` has its row, also one that is missing or failed. Two verdicts are asked for. LipTT against the
baselines: its excess over dense is at most half of that of the better one of equal or more honest bits. LipTT against
the rivals: the better of our recipes wins, ties or loses against the better rival at a budget; a difference within two
paired standard errors is a tie.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import DENSE, MAIN, VARIANTS, Cell, Group, all_cells
from methods import BASELINES, METHODS, OURS, RIVALS
from pairing import paired_difference
from setting import read_result

from liptt_cli.cli.methods import read_claim
from liptt_cli.config import shipped_configs

CORPORA: Mapping[Group, tuple[str, ...]] = {"reference": ("stdlib", "valid"), "stories260K": ("tinystories",)}
TARGET_SHARE = 0.5
_BITS_TOLERANCE = 1e-9
_ORDER = (DENSE, "dense-tuned", *(method for method in METHODS if method != "dense-tuned"))


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

    @property
    def claimed(self) -> float | None:
        """Return the bits of its paper's own count; a dial's own number stands for itself, None is no number."""
        if self.cell.method == DENSE or isinstance(self.cell.bits, float):
            return self.bits
        how = METHODS[self.cell.method]
        if how.claimed is not None:
            return how.claimed
        path = shipped_configs().get(how.config)
        claim = None if path is None else read_claim(path)
        return None if claim is None else claim.bits

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
        if self.cell.variant is not None:
            parts.append(VARIANTS[self.cell.variant].title)
        if self.cell.calibration != MAIN[self.cell.group]:
            parts.append(f"on `{self.cell.calibration}`")
        if self.cell.seed:
            parts.append(f"seed {self.cell.seed}")
        return ", ".join(parts)


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


@dataclass(frozen=True)
class Duel:
    """The better of our recipes and the better rival, at one budget on one corpus; several seeds where measured."""

    bits: float
    corpus: str
    ours: str
    theirs: str
    excesses: tuple[float, float]
    difference: float
    standard_error: float

    @property
    def outcome(self) -> str:
        """Return win, loss or tie."""
        if abs(self.difference) <= 2 * self.standard_error:
            return "tie"
        return "win" if self.difference < 0 else "loss"

    @property
    def share(self) -> float:
        """Return the difference as a share of their excess."""
        return self.difference / self.excesses[1] if self.excesses[1] > 0 else math.nan

    def __str__(self) -> str:
        """Return both excesses and what lies between them in a line."""
        return (
            f"at {in_bits(self.bits)} on {self.corpus}, {self.ours} {self.excesses[0]:.3f} nats against "
            f"{self.excesses[1]:.3f} of {self.theirs}: {self.difference:+.3f} ± {self.standard_error:.3f}, "
            f"{self.share:+.0%}"
        )


def in_bits(bits: float) -> str:
    """Return a budget in words."""
    return f"{bits:g} bit" if bits == 1 else f"{bits:g} bits"


def read_rows(results: Path, group: Group) -> list[Row]:
    """Return a group's rows without its trials, by method, the missing ones in their place.

    A result that was calibrated on other text than its cell names counts as missing.
    """
    rows = [Row(cell, _result(results, cell)) for cell in all_cells() if cell.group == group and cell.trial is None]
    return sorted(rows, key=lambda row: _ORDER.index(row.cell.method))


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Return a verdict for each plain LipTT row and corpus that has a baseline of equal or more bits."""
    found = []
    for row in rows:
        if row.whole and row.cell.method in OURS and row.cell.plain:
            rivals = [each for each in rows if each.whole and each.cell.method in BASELINES and _affords(each, row)]
            for corpus in CORPORA[row.cell.group]:
                beside = [rival for rival in rivals if rival.excess(corpus) is not None]
                if beside and row.excess(corpus) is not None:
                    best = min(beside, key=lambda rival: rival.get("corpora", corpus, "excess"))
                    found.append(Verdict(row, best, corpus))
    return found


def duels(rows: Sequence[Row]) -> list[Duel]:
    """Return a duel for each budget and corpus at which both sides were measured."""
    budgets = sorted({row.cell.bits for row in rows if isinstance(row.cell.bits, float)}, reverse=True)
    pairs = [_duel(rows, bits, corpus) for bits in budgets for corpus in CORPORA[rows[0].cell.group]]
    return [duel for duel in pairs if duel is not None]


def _duel(rows: Sequence[Row], bits: float, corpus: str) -> Duel | None:
    ours, theirs = (_best(rows, methods, bits, corpus) for methods in (OURS, RIVALS))
    if not ours or not theirs:
        return None
    pair = paired_difference(_windows(ours, corpus), _windows(theirs, corpus))
    if pair is None:
        return None
    excesses = (_mean_excess(ours, corpus), _mean_excess(theirs, corpus))
    return Duel(bits, corpus, ours[0].cell.method, theirs[0].cell.method, excesses, *pair)


def _result(results: Path, cell: Cell) -> Mapping[str, Any] | None:
    found = read_result(results, cell.key)
    stale = (
        found is not None and cell.method != DENSE and found.get("calibrated_on", cell.calibration) != cell.calibration
    )
    return None if stale else found


def _best(rows: Sequence[Row], methods: Sequence[str], bits: float, corpus: str) -> list[Row]:
    """Return all seeds of the method with the least mean excess at a budget; empty if none was measured."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        cell = row.cell
        same = cell.bits == bits and cell.variant is None and cell.calibration == MAIN[cell.group]
        if same and cell.method in methods and row.whole and row.excess(corpus) is not None:
            by_method.setdefault(cell.method, []).append(row)
    return min(by_method.values(), key=lambda seeds: _mean_excess(seeds, corpus), default=[])


def _windows(seeds: Sequence[Row], corpus: str) -> list[Mapping[str, Any]]:
    return [row.get("corpora", corpus) for row in seeds]


def _mean_excess(seeds: Sequence[Row], corpus: str) -> float:
    return math.fsum(row.excess(corpus) or 0.0 for row in seeds) / len(seeds)


def _affords(rival: Row, row: Row) -> bool:
    return rival.bits >= row.bits - _BITS_TOLERANCE
