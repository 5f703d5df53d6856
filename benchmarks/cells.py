"""What `make bench` measures: a literal table of cells, each one run of one model, and the scale of the measuring.

Two judges: the reference model, calibrated on half `stdlib` and half text sampled from itself, and stories260K,
calibrated on TinyStories and on text sampled from itself. Its widths are small and scales therefore dear: 1.5 honest
bits are about 1.0 bit of signs there.

`methods.py` has the methods, and how each is given the same training and the same search of rates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

from methods import METHODS, OURS, WITHOUT_DIAL

Group = Literal["reference", "stories260K"]
Calibration = Literal["mix", "stdlib", "tinystories", "self"]
GROUPS: tuple[Group, ...] = ("reference", "stories260K")
MAIN: Mapping[Group, Calibration] = {"reference": "mix", "stories260K": "tinystories"}
TRIAL_BITS: Mapping[Group, float] = {"reference": 1.0, "stories260K": 1.5}
DENSE = "dense"
_ALONE: tuple[Calibration, ...] = ("stdlib", "self")  # what the mix of the reference is made of
_SEEDED = ("liptt-onestep", "liptt-multistep", "liptt-ptq")  # the first three rows at one bit; seeds beside 0:
_SEEDS = (1, 2)


@dataclass(frozen=True)
class Variant:
    """A recipe with something changed: what it is called, and the overrides."""

    title: str
    overrides: tuple[str, ...]


VARIANTS: Mapping[str, Variant] = {
    "no-lipschitz": Variant("without the Lipschitz term", ("finetune.objectives.2.weight=0.0",)),
    "directional": Variant(
        "gain along the teacher's worst direction, weight 0.1",
        ("finetune.objectives.2.estimator=directional", "finetune.objectives.2.weight=0.1"),
    ),
    "diagonal": Variant("diagonal metric", ("binarize.metric.cols=diagonal",)),
    "uniform": Variant("uniform split of the bits", ("decompose.allocator={kind: uniform}",)),
    "no-hidden": Variant("without the hidden states", ("finetune.objectives.1.weight=0.0",)),
    "no-training": Variant("fit alone, no training", ("finetune.steps=0",)),
    "sparse": Variant(
        "0.5 % sparse beside it",
        (
            "binarize.residual=[{codec: {kind: sparse, mask: {kind: top_share, share: 0.005}}}]",
            "finetune.train=[codes, scales, norms, weights]",
        ),
    ),
    "rank-2": Variant("magnitudes of rank 2", ("binarize.codec.rank=2",)),
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
    calibration: Calibration = "mix"
    variant: str | None = None
    seed: int = 0
    trial: float | None = None

    @property
    def key(self) -> str:
        """Return the cell's name among all; its result is KEY.json."""
        return f"{self.group}--{self.name}"

    @property
    def config(self) -> str | None:
        """Return the configuration that makes it; None for the dense model as it is."""
        return None if self.method == DENSE else METHODS[self.method].config

    @property
    def is_packed(self) -> bool:
        """Tell whether anything is compressed; a tuned dense model is not."""
        return self.method not in (DENSE, "dense-tuned")

    @property
    def plain(self) -> bool:
        """Tell whether it is a method as it is, on its group's own text."""
        return self.variant is None and self.seed == 0 and self.calibration == MAIN[self.group]


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


CORE = (  # LipTT beside the naive baselines and the tuned dense model: under an hour on two free cores
    *(
        f"reference--{name}"
        for name in ("sign", "tt-svd-sign-1.0", "liptt-[op]*-1.0", "liptt-[op]*-0.55", "liptt-[op]*-0.3")
    ),
    *(f"reference--{name}" for name in ("dense-tuned", "liptt-onestep-1.0-no-lipschitz", "liptt-onestep-sign")),
    *(
        f"stories260K--{name}"
        for name in ("sign", "tt-svd-sign-1.5", "liptt-[op]*-1.5", "liptt-[op]*-1.5-self", "dense-tuned")
    ),
)


def all_cells() -> tuple[Cell, ...]:
    """Return every cell, those that others need first, then by what matters most."""
    return (*_reference(), *_stories())


def find_cells(*patterns: str) -> tuple[Cell, ...]:
    """Return the cells whose key or name a glob matches, glob by glob, behind those that they need; all without any."""
    every = all_cells()
    if not patterns:
        return every
    found: dict[str, Cell] = {}
    for pattern in patterns:
        wanted = {cell.key for cell in every if fnmatchcase(cell.key, pattern) or fnmatchcase(cell.name, pattern)}
        wanted |= {needed for cell in every if cell.key in wanted for needed in needs(cell)}
        found |= {cell.key: cell for cell in every if cell.key in wanted and cell.key not in found}
    return tuple(found.values())


def needs(cell: Cell) -> tuple[str, ...]:
    """Return the keys of the cells that must be finished before: dense for pairing, the trials for the rate."""
    if cell.trial is not None or cell.method == DENSE:
        return ()
    return (f"{cell.group}--{DENSE}", *(trial.key for trial in trials(cell.group, cell.method)))


def trials(group: Group, method: str) -> tuple[Cell, ...]:
    """Return the trials of a method on a model; none for one that is not trained."""
    if method not in METHODS or not METHODS[method].rates:
        return ()
    bits = None if method in WITHOUT_DIAL else TRIAL_BITS[group]
    return tuple(
        Cell(group, f"rate-{method}-x{factor:.2g}", method, bits, MAIN[group], trial=factor)
        for factor in METHODS[method].factors
    )


def _reference() -> tuple[Cell, ...]:
    with_dial = [method for method in METHODS if method not in WITHOUT_DIAL]
    found = [Cell("reference", DENSE)]
    found += [trial for method in METHODS for trial in trials("reference", method)]
    found += [_cell("reference", method, None) for method in WITHOUT_DIAL if method != "dense-tuned"]
    found += [_cell("reference", method, bits) for bits in (1.0, 0.55, 2.0, 0.3) for method in with_dial]
    found += [_cell("reference", "dense-tuned", None)]
    found += [_cell("reference", method, "sign") for method in ("tt-svd-sign", *OURS)]
    found += [_cell("reference", "liptt-onestep", 1.0, calibration=text) for text in _ALONE]
    found += [_cell("reference", "liptt-onestep", bits, variant=name) for bits in (1.0, 0.55) for name in VARIANTS]
    again = [_cell("reference", method, bits) for bits in (1.0, 0.55) for method in _SEEDED]
    found += [replace(cell, name=f"{cell.name}-s{seed}", seed=seed) for seed in _SEEDS for cell in again]
    found += [_cell("reference", method, bits) for bits in (0.8, 1.5) for method in with_dial]
    return tuple(found)


def _stories() -> tuple[Cell, ...]:
    with_dial = [method for method in METHODS if method not in WITHOUT_DIAL]
    found = [Cell("stories260K", DENSE, calibration="tinystories")]
    found += [trial for method in METHODS for trial in trials("stories260K", method)]
    found += [_cell("stories260K", method, None) for method in WITHOUT_DIAL if method != "dense-tuned"]
    found += [_cell("stories260K", method, bits) for bits in (1.5, 2.0, 2.5) for method in with_dial]
    found += [_cell("stories260K", "dense-tuned", None)]
    found += [_cell("stories260K", method, 1.5, calibration="self") for method in OURS]
    return tuple(found)


def _cell(
    group: Group,
    method: str,
    bits: float | Literal["sign"] | None,
    *,
    calibration: Calibration | None = None,
    variant: str | None = None,
) -> Cell:
    marks = [method, bits, None if calibration in (None, MAIN[group]) else calibration, variant]
    name = "-".join(str(mark) for mark in marks if mark is not None)
    return Cell(group, name, method, bits, calibration or MAIN[group], variant)
