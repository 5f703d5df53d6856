"""The cells of the Lipschitz question: what a run starts from, how fast and on how much it is tuned, under which term.

A cell is START-RATE-DATA-TERM-SEED, such as naive-x4-d10-directional.one.0.1-s0: the first three are a situation, in
which terms are compared.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

STARTS: Mapping[str, Mapping[str, object]] = {
    "good": {"decompose.allocator": "{kind: uniform}"},
    "naive": {
        "decompose.allocator": "{kind: uniform}",
        "decompose.factor.start": "svd",
        "binarize.solver": "{kind: direct}",
        "binarize.refit": "false",
    },
}
RATES = (1, 4)
DATA = (100, 10)  # percent of the windows, for the fit and for the fine-tune
ESTIMATORS = ("retention", "directional", "error_direction")
SIDES = ("two", "one")
WEIGHTS = (0.01, 0.1, 1.0)
TERMS = ("none", *(f"{estimator}.{side}.{weight:g}" for estimator, side, weight in product(ESTIMATORS, SIDES, WEIGHTS)))
DISTURBANCES = ("plain", "8-bit", "4-bit", "noise")


@dataclass(frozen=True)
class Cell:
    """One run: what it starts from, how fast and on how much it is tuned, under which term."""

    start: str
    rate: int
    data: int
    term: str
    seed: int

    @property
    def situation(self) -> str:
        """Return the situation that terms are compared in."""
        return f"{self.start}-x{self.rate}-d{self.data}"

    @property
    def key(self) -> str:
        """Return the cell's name; its result is KEY.json."""
        return f"{self.situation}-{self.term}-s{self.seed}"


def all_cells(seeds: Iterable[int]) -> Iterator[Cell]:
    """Yield every cell, those that share a base behind each other."""
    for seed, start, data, rate, term in product(seeds, STARTS, DATA, RATES, TERMS):
        yield Cell(start, rate, data, term, seed)
