"""Evidence: what each linear's error is at a few sizes, measured once by short fits and kept as JSON.

Which forms are fitted follows from the configuration alone (`points_of`), so that a plan can tell whether evidence is
its own. Evidence belongs to a model, its linears and shapes, and to all options that a fit depends on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liptt_cli.errors import ConfigError, InputError
from liptt_cli.forms.base import Form, bits_per_weight, blob_bytes
from liptt_cli.forms.read import form_from_json
from liptt_cli.menu.decompose import Knapsack, TensorTrain
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.price import Ladder, ladder
from liptt_cli.planning.sites import SiteShape
from liptt_cli.run_directory import differences

VERSION = 1
FILE = Path("02-decompose") / "evidence.json"

_UNFITTED = frozenset({"inputs", "codes", "rest", "order"})  # options of binarize that no short fit depends on


@dataclass(frozen=True)
class Point:
    """One form of a linear, of the candidate of that number, and its relative squared error in the metric."""

    candidate: int
    form: Form
    error: float


@dataclass(frozen=True)
class LinearEvidence:
    """One linear: its points, and what an error counts: the cost of the first candidate's middle point.

    `group` numbers the inputs within a block; linears of one group share theirs.
    """

    shape: tuple[int, int]
    block: int
    group: int
    points: tuple[Point, ...]
    weight: float


@dataclass(frozen=True)
class Evidence:
    """The linears of a model by name, and the options that their fits were made with."""

    model: str
    recipe: Mapping[str, Any]
    linears: Mapping[str, LinearEvidence]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        linears = {name: _linear_to_json(linear) for name, linear in self.linears.items()}
        return {"version": VERSION, "model": self.model, "recipe": dict(self.recipe), "linears": linears}

    def of(self, site: SiteShape) -> LinearEvidence | None:
        """Return what is known of a linear; its file may leave out the name of the base model in front."""
        names = [name for name in self.linears if name == site.name or name.endswith(f".{site.name}")]
        return self.linears[names[0]] if len(names) == 1 else None


def read_evidence(path: Path) -> Evidence:
    """Read the evidence of a run directory, or of a file.

    Raises:
        InputError: if there is none, or it cannot be read.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"{path}: no evidence here (looked for {file}); `liptt compress` measures it when decompose.allocator.kind "
            "is knapsack"
        )
    try:
        data = json.loads(file.read_text(encoding="utf8"))
        if data["version"] != VERSION:
            raise InputError(f"{file}: evidence of version {data['version']}, this liptt reads {VERSION}; measure anew")
        linears = {name: _linear_from_json(linear) for name, linear in data["linears"].items()}
        return Evidence(data["model"], data["recipe"], linears)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not evidence as liptt writes it ({error!r}); measure anew") from error


def candidates_of(config: RunConfig) -> list[RunConfig]:
    """Return the configuration once for each factor that the allocator chooses from, its own first."""
    allocator = config.decompose.allocator
    others: Sequence[TensorTrain] = allocator.candidates if isinstance(allocator, Knapsack) else ()
    return [config] + [
        config.model_copy(update={"decompose": config.decompose.model_copy(update={"factor": factor})})
        for factor in others
    ]


def ladders_of(config: RunConfig, shape: tuple[int, int]) -> list[Ladder]:
    """Return a ladder for each candidate.

    Raises:
        ShapeError: if a dimension does not factor as a candidate asks.
    """
    return [ladder(candidate, shape) for candidate in candidates_of(config)]


def points_of(at_bits: Sequence[float], ladders: Sequence[Ladder]) -> list[tuple[int, Form]]:
    """Return the forms to fit, with the number of their candidate: none where there is nothing to choose.

    Raises:
        ConfigError: if the rates asked for tell no two sizes of a candidate apart.
    """
    if sum(len(each.forms) for each in ladders) == 1:
        return []
    found = []
    for number, each in enumerate(ladders):
        rungs = sorted({each.best(bits) for bits in at_bits})
        if len(rungs) == 1 and len(each.forms) > 1:
            raise ConfigError(
                f"decompose.allocator.at_bits: {list(at_bits)} is one and the same form for a {each.shape[0]} x "
                f"{each.shape[1]} linear, whose forms take {each.bits[0]:.3f} to {each.bits[-1]:.3f} bits per weight; "
                "give rates within that range"
            )
        found += [(number, each.forms[rung]) for rung in rungs]
    return found


def middle(count: int) -> int:
    """Return which of the first candidate's points a weight belongs to: the middle one, the lower of two."""
    return (count - 1) // 2


def recipe_of(config: RunConfig) -> dict[str, Any]:
    """Return the options that evidence depends on, as plain values; paths by their last part, defaults left out."""
    allocator = config.decompose.allocator
    fitted = config.binarize.model_dump(mode="json", exclude_defaults=True, exclude=set(_UNFITTED))
    solver = {**fitted.get("solver", {})}
    solver.pop("iterations", None)
    calibration = config.calibration.model_dump(mode="json", exclude_defaults=True, exclude={"batch_windows"})
    return {
        "binarize": {**fitted, "solver": solver},
        "calibration": {**calibration, "corpus": _without_folders(config.calibration.corpus)},
        "factors": [each.decompose.factor.model_dump(mode="json") for each in candidates_of(config)],
        "allocator": allocator.model_dump(mode="json", exclude={"tie", "candidates"}),
        "dtype": config.load.dtype,
        "seed": config.seed,
    }


def check(evidence: Evidence, config: RunConfig, *, model: str, sites: Sequence[SiteShape]) -> None:
    """Refuse evidence that is not of this model and recipe.

    Raises:
        ConfigError: if it was measured with other options; the message lists them.
        InputError: if it is of another model, or linears are missing.
    """
    differing = differences(evidence.recipe, recipe_of(config))
    if differing:
        raise ConfigError(
            "the evidence was measured with other options; these differ (there, here):",
            *differing,
            "Set them alike, or measure anew with `liptt compress --until decompose`",
        )
    if evidence.model != model:
        raise InputError(f"the evidence is of the model {evidence.model}, and this plan is of {model}; measure anew")
    at_bits = config.decompose.allocator.at_bits if isinstance(config.decompose.allocator, Knapsack) else ()
    wanted = {shape: points_of(at_bits, ladders_of(config, shape)) for shape in {site.shape: None for site in sites}}
    for site in sites:
        found = evidence.of(site)
        told = "" if found is None else f" (there it is of shape {found.shape[0]} x {found.shape[1]})"
        if found is None or [(point.candidate, point.form) for point in found.points] != wanted[site.shape]:
            raise InputError(
                f"the evidence does not tell of {site.name}, {site.shape[0]} x {site.shape[1]}, at all the sizes that "
                f"this plan needs{told}; measure anew, or go on with the run that it comes from"
            )


def _without_folders(corpus: Any) -> Any:
    """Return a corpus, or a mix of them, with files named by their last part: a run keeps absolute paths."""
    if isinstance(corpus, Mapping):
        return {_without_folders(name): share for name, share in corpus.items()}
    return Path(corpus).name if Path(corpus).suffix else corpus


def _linear_to_json(linear: LinearEvidence) -> dict[str, Any]:
    points = [
        {
            "candidate": point.candidate,
            "bits_per_weight": bits_per_weight(point.form),
            "bytes": blob_bytes(point.form),
            "error": point.error,
            "form": point.form.to_json(),
        }
        for point in linear.points
    ]
    shape = list(linear.shape)
    return {
        "shape": shape,
        "block": linear.block,
        "group": linear.group,
        "weight": linear.weight,
        "points": points,
    }


def _linear_from_json(data: Mapping[str, Any]) -> LinearEvidence:
    points = tuple(Point(p["candidate"], form_from_json(p["form"]), p["error"]) for p in data["points"])
    rows, columns = data["shape"]
    return LinearEvidence((rows, columns), data["block"], data["group"], points, data["weight"])
