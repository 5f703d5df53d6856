"""lm-evaluation-harness tasks through its Python API; the only file that imports lm_eval.

Indexing all built-in tasks takes 20 seconds, so a name is looked for in this order: a local YAML file, a
built-in file that carries the name, and only then the full index. Of each task a fixed seeded subset of
documents can be run. Each document's score is kept, so that two models can be compared in pairs.
"""

import contextlib
import copy
import difflib
import functools
import logging
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.evaluator import evaluate as run_harness
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks import _yaml_loader as yaml_loader
from lm_eval.tasks._index import Entry, Kind
from torch import nn
from tqdm.std import tqdm  # type: ignore[import-untyped]  # it carries no types

from liptt_cli.calibration.corpora import reading_datasets
from liptt_cli.errors import ConfigError, InputError
from liptt_cli.evaluation.results import TaskScores, grouped
from liptt_cli.evaluation.task_files import find_task_file, names_in, with_data

Progress = Callable[[int, int], None]
_BUILT_IN = Path(lm_eval.tasks.__file__).parent


@dataclass(frozen=True)
class TaskSettings:
    """How tasks are run: where their data are, how many documents of each, in what batches."""

    data_root: Path | None = None
    near: Path | None = None
    limit: int | None = None
    batch_size: int = 8
    seed: int = 0


def run_tasks(
    model: nn.Module,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    settings: TaskSettings,
    progress: Progress | None = None,
) -> dict[str, TaskScores]:
    """Run tasks on a causal language model and return the scores of each task and each group by name.

    Args:
        model: one of transformers'; its training mode is put back afterwards.
        tokenizer: its tokenizer.
        tasks: names of built-in tasks, YAML files, or FOLDER/NAME.
        settings: data, subset, batches and seed.
        progress: is told requests done and requests in all.

    Raises:
        ConfigError: if a task is unknown or cannot be built.
        InputError: if a task's data are not there.
    """
    with _quiet():
        names, manager = _registered(tasks, settings)
        loaded = _load(manager, names)
        for task in loaded["tasks"].values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=settings.seed)
        training = model.training
        found = run_harness(
            _Watched(model, tokenizer, batch_size=settings.batch_size, progress=progress),
            loaded,
            samples=_subsets(loaded["tasks"], settings),
            bootstrap_iters=0,
        )
        model.train(training)
    scores = {name: _scores(name, task, found) for name, task in loaded["tasks"].items()}
    for name, group in loaded["groups"].items():
        scores[name] = grouped(name, [scores[task.task_name] for task in group.get_all_tasks()])
    return scores


def require_known(tasks: Sequence[str], settings: TaskSettings) -> None:
    """Refuse unknown tasks and absent local data, without loading either.

    Raises:
        ConfigError: if a task is unknown.
        InputError: if a local task's data are not there.
    """
    with _quiet():
        _registered(tasks, settings)


class _Watched(HFLM):  # type: ignore[misc]  # lm_eval carries no types
    """The harness's own model class, with our progress in place of its bars, and the caller's tokenizer untouched."""

    def __init__(self, model: nn.Module, tokenizer: Any, *, batch_size: int, progress: Progress | None) -> None:
        self._progress = progress
        self._done = self._all = 0
        super().__init__(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, override_bs: int | None = None) -> Any:
        self._done, self._all = 0, len(requests)
        found = super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
        self._tell(self._all)
        return found

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        self._tell(len(inps))
        return super()._model_call(inps, attn_mask, labels)

    def _tell(self, more: int) -> None:
        self._done = min(self._done + more, self._all)
        if self._progress is not None and self._all:
            self._progress(self._done, self._all)


def _registered(tasks: Sequence[str], settings: TaskSettings) -> tuple[list[str], Any]:
    """Put just the tasks asked for, and what they refer to, into an otherwise empty index."""
    manager = TaskManager(include_defaults=False)
    folders = [Path.cwd(), *(folder for folder in (settings.near, settings.data_root) if folder is not None)]
    return [_register(task, manager.task_index, folders, settings.data_root) for task in tasks], manager


def _register(spec: str, index: dict[str, Entry], folders: Sequence[Path], data_root: Path | None) -> str:
    local = find_task_file(spec, folders)
    file = local or _built_in().get(spec)
    if file is None:
        return _from_full_index(spec, index)
    config = _read(file)
    name, kind = _name_and_kind(config, file)
    if local is not None:
        config = with_data(config, file=file, data_root=data_root)
    index[name] = Entry(name, kind, None if local else file, config)
    if kind is Kind.GROUP:
        _register_members(config.get("task"), index, file, data_root)
    return name


def _register_members(members: Any, index: dict[str, Entry], file: Path, data_root: Path | None) -> None:
    for member in members if isinstance(members, list) else []:
        if isinstance(member, str):
            if member not in index:
                _register(member, index, [file.parent], data_root)
        elif isinstance(member.get("task"), list):
            _register_members(member["task"], index, file, data_root)
        elif (name := member.get("task") or member.get("group")) not in index:
            if "task" not in member or find_task_file(name, [file.parent]) or name in _built_in():
                _register(name, index, [file.parent], data_root)
            else:
                index[name] = Entry(name, Kind.TASK, None, dict(member))


@functools.cache
def _built_in() -> dict[str, Path]:
    return names_in(sorted(_BUILT_IN.rglob("*.yaml"), key=lambda path: path.as_posix()))


def _from_full_index(spec: str, index: dict[str, Entry]) -> str:
    if "/" not in spec and not spec.endswith((".yaml", ".yml")):
        known = TaskManager().task_index
        if spec in known:
            for name, entry in known.items():
                index.setdefault(name, entry)
            return spec
        close = difflib.get_close_matches(spec, list(known), n=3)
        hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "See `lm_eval ls tasks` for the names."
        raise ConfigError(f"tasks: unknown task {spec!r}. {hint} A local task is given as the path of its YAML file.")
    raise ConfigError(f"tasks: no task file {spec!r}, and no file in its folder defines a task of that name.")


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(yaml_loader.load_yaml(file))
    except (yaml_loader.yaml.YAMLError, ValueError, OSError, ImportError, AttributeError) as error:
        raise ConfigError(f"{file}: not a task that can be read: {error}") from error


def _name_and_kind(config: Mapping[str, Any], file: Path) -> tuple[str, Kind]:
    kind = Kind.PY_TASK if "class" in config else Kind.GROUP if "group" in config else Kind.TASK
    name = config.get("group" if kind is Kind.GROUP else "task")
    if not isinstance(name, str):
        raise ConfigError(f"{file}: no 'task: NAME' or 'group: NAME' in it; see the harness's guide to new tasks.")
    return name, kind


def _load(manager: Any, names: Sequence[str]) -> Any:
    what = f"tasks {', '.join(names)}"
    try:
        with reading_datasets(what):
            return manager.load(list(names))
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise ConfigError(f"{what}: the harness cannot build them: {error}") from error


def _subsets(tasks: Mapping[str, Any], settings: TaskSettings) -> dict[str, list[int]] | None:
    """Draw each task's documents from a generator of its own, so that tasks beside it change nothing."""
    if settings.limit is None:
        return None
    chosen = {}
    for name, task in tasks.items():
        documents = len(task.eval_docs)
        if settings.limit < documents:
            generator = random.Random(f"{settings.seed}:{name}")
            chosen[name] = sorted(generator.sample(range(documents), settings.limit))
    return chosen


def _scores(name: str, task: Any, found: Mapping[str, Any]) -> TaskScores:
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    if not samples:
        raise InputError(f"task {name}: it has no documents.")
    filters = sorted({sample["filter"] for sample in samples})
    metrics, scores, better = {}, {}, {}
    for key, value in found["results"][name].items():
        metric, _, chosen = key.partition(",")
        if chosen in filters and not metric.endswith("_stderr") and isinstance(value, (int, float)):
            label = metric if chosen == "none" else key
            metrics[label] = float(value)
            better[label] = bool(found["higher_is_better"].get(name, {}).get(metric, True))
            numbers = [sample.get(metric) for sample in samples if sample["filter"] == chosen]
            if _is_mean(numbers, metrics[label]):
                scores[label] = [float(number) for number in numbers]
    documents = [str(sample["doc_id"]) for sample in samples if sample["filter"] == filters[0]]
    return TaskScores(name, metrics, scores, documents, better, _chance(task, samples))


def _is_mean(numbers: Sequence[Any], mean: float) -> bool:
    if not all(isinstance(number, (int, float)) for number in numbers):
        return False
    return math.isclose(math.fsum(numbers) / len(numbers), mean, rel_tol=1e-9, abs_tol=1e-12)


def _chance(task: Any, samples: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the accuracy of a blind guess; None for a task without choices."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    repeats = 2 if "acc_mutual_info" in samples[0]["metrics"] else 1
    return math.fsum(repeats / len(sample["arguments"]) for sample in samples) / len(samples)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what the harness prints to stderr, and keep its bars and its log lines below errors to itself."""
    logger = logging.getLogger("lm_eval")
    level, started = logger.level, tqdm.__init__

    def start_unseen(bar: Any, *arguments: Any, **options: Any) -> None:
        started(bar, *arguments, **{**options, "disable": True})

    logger.setLevel(logging.ERROR)
    tqdm.__init__ = start_unseen
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        tqdm.__init__ = started
        logger.setLevel(level)
