"""What `make bench` measures: a literal table of cells, each one run of one model, and the scale of the measuring.

Two judges: the reference model, calibrated on `stdlib`, and stories260K, calibrated on TinyStories and on text sampled
from itself. Its widths are small and scales therefore dear: 1.5 honest bits are about 1.0 bit of signs there.

Every tuned method gets the same search: two rates, its recipe's own times the factors below, each tried as a whole
run at one budget, judged on documents held out of the calibration text, never on evaluation text. The best factor
serves all of the method's rows on that model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

Group = Literal["reference", "stories260K"]
Calibration = Literal["stdlib", "tinystories", "self"]
ROOT = Path(__file__).resolve().parents[1]
GROUPS: tuple[Group, ...] = ("reference", "stories260K")
DENSE = "dense"


@dataclass(frozen=True)
class Search:
    """The rates that a tuned method is tried with: keys under `at`.learning_rate, times each factor."""

    at: str
    keys: tuple[str, ...]
    factors: tuple[float, ...]


SEARCHES: Mapping[str, Search] = {
    "liptt-ptq": Search("binarize.codes", ("codes",), (1.0, 2.0)),
    "liptt-onestep": Search("finetune", ("codes",), (1.0, 2.0)),
    "dense-tuned": Search("finetune", ("weights", "norms"), (1.0, 3.0)),
}
CONFIGS = {
    "sign": "methods/sign",
    "tt-svd-sign": "methods/tt-svd-sign",
    "liptt-ptq": "methods/liptt-ptq",
    "liptt-onestep": "methods/liptt-onestep",
    "dense-tuned": str(ROOT / "benchmarks" / "dense-tuned.yaml"),
}


@dataclass(frozen=True)
class Cell:
    """One row: a method on a model at a budget.

    `bits` is the dial; "sign" stands for what sign costs on this model, None for a recipe without a dial. A trial has
    the factor that it tries; it is judged on held-out calibration text alone.
    """

    group: Group
    name: str
    method: str = DENSE
    bits: float | Literal["sign"] | None = None
    calibration: Calibration = "stdlib"
    lipschitz: bool = True
    trial: float | None = None

    @property
    def key(self) -> str:
        """Return the cell's name among all; its result is KEY.json."""
        return f"{self.group}--{self.name}"

    @property
    def config(self) -> str | None:
        """Return the configuration that makes it; None for the dense model as it is."""
        return CONFIGS.get(self.method)


@dataclass(frozen=True)
class Scale:
    """How much is measured. `steps` shortens every training, `iterations` every ADMM; None leaves the recipe's own."""

    name: str = "full"
    window_tokens: int = 256
    windows: int = 390
    held_out_windows: int = 128
    calibration_windows: int = 256
    limits: Mapping[str, int] = field(default_factory=lambda: {"blimp": 100, "lambada": 1000})
    steps: int | None = None
    iterations: int | None = None


FULL = Scale()
QUICK = Scale("quick", 256, 8, 8, 16, {"blimp": 5, "lambada": 20}, 4, 4)


def all_cells() -> tuple[Cell, ...]:
    """Return every cell, those that others need first."""
    return (
        *_cells("reference", "stdlib", budgets=(1.0, 0.55, 0.3)),
        *_cells("stories260K", "tinystories", budgets=(1.5,)),
    )


def find_cells(pattern: str | None = None) -> tuple[Cell, ...]:
    """Return the cells whose key or name a glob matches, with those that they need; all of them without a glob."""
    every = all_cells()
    if pattern is None:
        return every
    wanted = {cell.key for cell in every if fnmatchcase(cell.key, pattern) or fnmatchcase(cell.name, pattern)}
    wanted |= {needed for cell in every if cell.key in wanted for needed in needs(cell)}
    return tuple(cell for cell in every if cell.key in wanted)


def needs(cell: Cell) -> tuple[str, ...]:
    """Return the keys of the cells that must be finished before: dense for pairing, the trials for the rate."""
    if cell.trial is not None or cell.method == DENSE:
        return ()
    return (f"{cell.group}--{DENSE}", *(trial.key for trial in trials(cell.group, cell.method)))


def trials(group: Group, method: str) -> tuple[Cell, ...]:
    """Return the trials of a method on a model; none for one that is not tuned."""
    if method not in SEARCHES:
        return ()
    main: Calibration = "stdlib" if group == "reference" else "tinystories"
    bits = None if method == "dense-tuned" else 1.0 if group == "reference" else 1.5
    return tuple(
        Cell(group, f"rate-{method}-x{factor:.2g}", method, bits, main, trial=factor)
        for factor in SEARCHES[method].factors
    )


def _cells(group: Group, main: Calibration, *, budgets: tuple[float, ...]) -> tuple[Cell, ...]:
    highest = max(budgets)
    found = [Cell(group, DENSE)]
    found += [trial for method in SEARCHES for trial in trials(group, method)]
    found += [Cell(group, "sign", "sign", None, main)]
    found += [Cell(group, f"tt-svd-sign-{bits}", "tt-svd-sign", bits, main) for bits in (highest, "sign")]
    for calibration in (main,) if group == "reference" else (main, "self"):
        mark = "" if calibration == main else f"-{calibration}"
        for method in ("liptt-ptq", "liptt-onestep"):
            dials = budgets if mark else ("sign", *budgets)
            found += [Cell(group, f"{method}-{bits}{mark}", method, bits, calibration) for bits in dials]
        found += [Cell(group, f"dense-tuned{mark}", "dense-tuned", None, calibration)]
    if group == "reference":
        found += [Cell(group, "liptt-onestep-1.0-no-lipschitz", "liptt-onestep", 1.0, main, lipschitz=False)]
        for method in ("liptt-ptq", "liptt-onestep"):
            found += [Cell(group, f"{method}-{bits}-self", method, bits, "self") for bits in budgets]
    return tuple(found)
