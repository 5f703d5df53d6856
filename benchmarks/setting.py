"""Where a benchmark reads and writes, what it can measure here, and what makes a finished cell still valid.

A cell is finished if its result says "ok", its run's inputs hash to the same (resolved configuration without paths,
model, calibration text, versions of the code and of Python), and so do those of every measure that is possible here.
A measure that is not possible here but stands in the file is kept.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cells import DENSE, VARIANTS, Cell, Group, Scale, trials
from methods import METHODS, ROOT
from texts import sha256_of, write_sampled_parts, write_stdlib_parts, write_story_parts

from liptt_cli.config import configs_folder, load_config
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.architectures import find_shape
from liptt_cli.planning.plan import Plan, chosen_sites, structure
from liptt_cli.planning.sites import read_headers
from liptt_cli.version import VERSION

CODE = f"{VERSION}/1"  # raise the second number when a change of the code changes what a cell measures
HELD_OUT = "held-out"  # the corpora of a trial begin with it
TEXTS, PAIRS = "eval-texts", "eval-pairs"  # the evaluations of a cell, and their files
TASKS = {"blimp": "blimp_offline.yaml", "lambada": "lambada_openai_offline.yaml"}


@dataclass(frozen=True)
class Prepared:
    """A cell ready to run: its configuration and overrides, rate, price, and the hash of its inputs."""

    config: str
    overrides: tuple[str, ...]
    rate: dict[str, Any] | None
    price: dict[str, Any]
    inputs: str


@dataclass(frozen=True)
class Setting:
    """The folders, the scale, and the threads of a process."""

    reference: Path
    shared: Path
    results: Path
    work: Path
    scale: Scale
    threads: int

    def model(self, group: Group) -> Path:
        """Return a group's dense model."""
        return self.reference if group == "reference" else self.shared / "models" / "stories260K" / "hf"

    def available(self, group: Group) -> bool:
        """Tell whether a group's model and calibration text are here."""
        there = (self.model(group) / "config.json").exists()
        return there if group == "reference" else there and self._sample.exists()

    def corpora(self, cell: Cell) -> dict[str, str]:
        """Return the corpora that a cell is measured on, by short name."""
        if cell.trial is not None:
            parts = ("stdlib", "self") if cell.group == "reference" else ("tinystories",)
            return {f"{HELD_OUT} {part}": str(self._text(f"{part}-held-out")) for part in parts}
        if cell.group == "stories260K":
            return {"tinystories": str(self._text("tinystories-evaluation"))}
        valid = self.shared / "data" / "corpus" / "valid.txt.gz"
        return {"stdlib": "stdlib"} | ({"valid": str(valid)} if valid.exists() else {})

    def tasks(self, cell: Cell) -> dict[str, Path]:
        """Return the task files that a cell is measured on, by short name."""
        if cell.trial is not None:
            return {}
        folder = self.shared / "data" / "lm_eval_tasks"
        return {name: folder / file for name, file in TASKS.items() if (folder / file).exists()}

    def prepare(self, cell: Cell) -> Prepared:
        """Write the texts that a cell needs and resolve all that it depends on.

        Raises:
            LookupError: if its rate cannot be chosen, since no trial was finished.
            LipttError: if its configuration or budget is refused.
        """
        self._write_texts(cell)
        if cell.config is None:
            return Prepared("", (), None, self._dense_price(cell), self._hash(cell, {}))
        rate = self._rate(cell)
        overrides = tuple(self._overrides(cell, rate))
        chosen = load_config(cell.config, overrides=overrides).config.model_dump(mode="json", exclude_defaults=True)
        price = self._price(cell.config, overrides)
        return Prepared(cell.config, overrides, rate, price, self._hash(cell, chosen))

    def folder(self, cell: Cell, prepared: Prepared) -> Path:
        """Return the work folder of a cell with these inputs."""
        return self.work / self.scale.name / cell.group / f"{cell.name}-{prepared.inputs[:8]}"

    def dense_evaluations(self, group: Group) -> list[Path]:
        """Return what dense printed, which every other cell is paired with; empty if it is gone."""
        dense = Cell(group, DENSE)
        folder = self.folder(dense, self.prepare(dense))
        found = [folder / f"{name}.json" for name in ((TEXTS, PAIRS) if "blimp" in self.tasks(dense) else (TEXTS,))]
        return found if all(path.exists() for path in found) else []

    def measure_hashes(self, cell: Cell) -> dict[str, str]:
        """Return the hash of each measure that is possible here: its text, and how much of it."""
        scale = self.scale
        windows = scale.held_out_windows if cell.trial is not None else scale.windows
        found = {}
        for name, source in self.corpora(cell).items():
            text = _python() if source == "stdlib" else sha256_of(Path(source))
            found[name] = _digest([text, scale.window_tokens, windows])
        for name, path in self.tasks(cell).items():
            found[name] = _digest([sha256_of(path), scale.limits[name]])
        return found

    def without_paths(self, text: str) -> str:
        """Return a text with the machine's folders named by what they are."""
        names = {self.reference: "MODEL", self.shared: "SHARED", self.work: "WORK", ROOT: "."}
        for path in sorted(names, key=lambda path: -len(str(path))):
            text = text.replace(str(path), names[path])
        return text

    @cached_property
    def _sample(self) -> Path:
        return self.shared / "data" / "tinystories" / "sample.txt.gz"

    def _text(self, name: str) -> Path:
        return self.work / "texts" / f"{name}.jsonl"

    def _write_texts(self, cell: Cell) -> None:
        folder = self.work / "texts"
        if cell.group == "stories260K":
            write_story_parts(folder, self._sample)
        elif cell.trial is not None or cell.calibration == "mix":
            write_stdlib_parts(folder)
            write_sampled_parts(folder, self.reference, windows=self.scale.calibration_windows)

    def _calibration(self, cell: Cell) -> str | dict[str, float]:
        """Return the calibration text; a trial's is the part that is not held out."""
        part = "calibration" if cell.trial is None else "tuning"
        if cell.group == "stories260K":
            return cell.calibration if cell.calibration == "self" else str(self._text(f"tinystories-{part}"))
        if cell.calibration != "mix":
            return cell.calibration
        ours = "stdlib" if cell.trial is None else str(self._text("stdlib-tuning"))
        return {ours: 0.5, str(self._text(f"self-{part}")): 0.5}

    def _overrides(self, cell: Cell, rate: Mapping[str, Any] | None) -> list[str]:
        scale, method = self.scale, METHODS[cell.method]
        found = [f"model={self.model(cell.group)}", f"calibration.corpus={json.dumps(self._calibration(cell))}"]
        found += [f"calibration.windows={scale.calibration_windows}", f"seed={cell.seed}"]
        found += [f"calibration.window_tokens={scale.window_tokens}", "calibration.batch_windows=16"]
        found += ["load.dtype=float32", "evaluate.perplexity=[]", f"evaluate.lipschitz={_yaml(cell.trial is None)}"]
        if cell.bits is not None:
            found.append(f"bits_per_weight={sign_bits(self.model(cell.group)) if cell.bits == 'sign' else cell.bits}")
        found += method.setting
        if rate is not None:
            found += [f"{key}={value}" for key, value in rate["values"].items()]
        found += [] if cell.variant is None else VARIANTS[cell.variant].overrides
        return [*found, *self._shortened(cell)]

    def _shortened(self, cell: Cell) -> list[str]:
        """Return the overrides of a scale that only proves that a cell runs."""
        options = _options(cell)
        found = []
        trainings = {"decompose.heal": options.decompose.heal, "finetune": options.finetune}
        trainings |= {"binarize.rest": options.binarize.rest, "binarize.codes": options.binarize.codes}
        for at, tuning in trainings.items():
            if self.scale.steps is not None and tuning.steps > self.scale.steps:
                found.append(f"{at}.steps={self.scale.steps}")
        if self.scale.iterations is not None and options.binarize.solver.kind == "admm":
            found.append(f"binarize.solver.iterations={self.scale.iterations}")
        return found

    def _rate(self, cell: Cell) -> dict[str, Any] | None:
        """Return the rates of a trained cell: those it tries, or the best tried ones with all that was found."""
        keys = METHODS[cell.method].rates
        if not keys:
            return None
        tried = {} if cell.trial is not None else self._tried(cell)
        if not tried and cell.trial is None:
            raise LookupError(f"no trial of {cell.method} was finished, so no rate can be chosen")
        factor = min(tried, key=lambda each: tried[each]) if cell.trial is None else cell.trial
        options = _options(cell)
        values = {key: float(f"{_at(options, key) * factor:.4g}") for key in keys}
        return {"factor": factor, "values": values, "held_out_nats": {f"{each:.2g}": tried[each] for each in tried}}

    def _tried(self, cell: Cell) -> dict[float, float]:
        found = {}
        for trial in trials(cell.group, cell.method):
            result = read_result(self.results, trial.key)
            if result is not None and result["status"] == "ok" and trial.trial is not None:
                found[trial.trial] = held_out_nats(result)
        return found

    def _price(self, config: str, overrides: tuple[str, ...]) -> dict[str, Any]:
        plan = _plan(config, overrides)
        operations = plan.operations
        return {
            "weights": plan.weights,
            "bits_per_weight": round(plan.bits_per_weight, 6),
            "payload_bytes": plan.payload_bytes,
            "sign_additions": operations.sign_additions,
            "multiplications": operations.multiplications,
        }

    def _dense_price(self, cell: Cell) -> dict[str, Any]:
        plan = _plan("methods/sign", (f"model={self.model(cell.group)}",))
        headers = read_headers(self.model(cell.group))
        bf16 = 2 * sum(_entries(shape) for shape, _ in headers.values())
        return {
            "weights": plan.weights,
            "bits_per_weight": 16.0,
            "payload_bytes": 2 * plan.weights,
            "sign_additions": 0,
            "multiplications": plan.weights,
            "bf16_bytes": bf16,
        }

    def _hash(self, cell: Cell, chosen: Mapping[str, Any]) -> str:
        """Return the hash of what a run is made of: no path in it, the texts and the model by their sha256.

        Options at their defaults are left out, so that a new one does not make every cell stale; a default that
        changes must raise `CODE`.
        """
        plain = {key: value for key, value in chosen.items() if key not in ("model", "output", "evaluate", "export")}
        corpus = self._calibration(cell) if chosen else "none"
        shares = corpus if isinstance(corpus, dict) else {corpus: 1.0}
        texts = {sha256_of(Path(name)) if name.endswith(".jsonl") else name: share for name, share in shares.items()}
        named: Any = texts if len(texts) > 1 else next(iter(texts))
        plain["calibration"] = {**plain.get("calibration", {}), "corpus": named}
        return _digest([plain, _model_sha256(self.model(cell.group)), CODE, _python() if "stdlib" in texts else ""])


def held_out_nats(result: Mapping[str, Any]) -> float:
    """Return what a trial is judged by: the mean nats over its held-out texts."""
    found = [float(each["nats"]) for name, each in result["corpora"].items() if name.startswith(HELD_OUT)]
    return sum(found) / len(found)


def read_result(results: Path, key: str) -> dict[str, Any] | None:
    """Return a cell's result, or None if there is none."""
    path = results / f"{key}.json"
    return json.loads(path.read_text(encoding="utf8")) if path.exists() else None


@cache
def sign_bits(model: Path) -> float:
    """Return the honest bits of plain sign with row and column scales on a model."""
    return _plan("methods/sign", (f"model={model}",)).bits_per_weight


def _plan(config: str, overrides: tuple[str, ...]) -> Plan:
    loaded = load_config(config, overrides=overrides)
    near = loaded.source_path.parent
    shape = find_shape(str(loaded.config.model), revision=None, near=near, configs=configs_folder())
    return structure(loaded.config, shape, chosen_sites(loaded.config, shape))


def _options(cell: Cell) -> RunConfig:
    """Return a cell's recipe with the common number of tokens, before any rate is chosen."""
    overrides = ["model=none", *METHODS[cell.method].setting]
    if METHODS[cell.method].rates and cell.bits is not None:
        overrides.append("bits_per_weight=1.0")
    return load_config(str(cell.config), overrides=overrides).config


def _at(options: RunConfig, key: str) -> float:
    found: Any = options
    for part in key.split("."):
        found = getattr(found, part)
    return float(found)


@cache
def _model_sha256(model: Path) -> str:
    files = sorted(path for path in model.iterdir() if path.suffix in (".safetensors", ".json"))
    return _digest([[path.name, sha256_of(path)] for path in files if path.name not in ("judge.json", "training.json")])


def _python() -> str:
    return platform.python_version()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _entries(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def _yaml(flag: bool) -> str:
    return "true" if flag else "false"
