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
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from liptt_cli.errors import ConfigError
from liptt_cli.evaluation.results import TaskScores, grouped
from liptt_cli.evaluation.scoring import scores_of
from liptt_cli.evaluation.task_files import files_that_say, find_task_file, names_in, with_data
from liptt_cli.evaluation.task_tree import leaves

Progress = Callable[[int, int], None]
_BUILT_IN = Path(lm_eval.tasks.__file__).parent


@dataclass(frozen=True)
class TaskSettings:
    """How tasks are run: where their data are, how many documents of each, in what batches.

    `shots` has the number of examples before a question, by the name of a task or of a group, where a task's own
    number shall not hold.
    """

    data_root: Path | None = None
    near: Path | None = None
    limit: int | None = None
    batch_size: int = 8
    seed: int = 0
    shots: Mapping[str, int] = field(default_factory=dict)


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
        loaded = _load(manager, list(dict.fromkeys(names)))
        _set_shots(loaded, settings)
        training = model.training
        found = run_harness(
            _Watched(model, tokenizer, batch_size=settings.batch_size, progress=progress),
            loaded,
            samples=_subsets(loaded["tasks"], settings),
            bootstrap_iters=0,
        )
        model.train(training)
    scores = {name: scores_of(name, task, found) for name, task in loaded["tasks"].items()}
    for name, group in loaded["groups"].items():
        scores[name] = grouped(name, [scores[task.task_name] for task in group.get_all_tasks()])
    return scores


def require_known(tasks: Sequence[str], settings: TaskSettings) -> list[str]:
    """Refuse unknown tasks and absent local data, without loading either, and return the name of each task.

    Raises:
        ConfigError: if a task is unknown.
        InputError: if a local task's data are not there.
    """
    with _quiet():
        return _registered(tasks, settings)[0]


def is_local(spec: str) -> bool:
    """Tell whether a task given as FOLDER/NAME is there, in a file of its own or inside a group."""
    return find_task_file(spec, [Path.cwd()]) is not None or _find_member(spec, [Path.cwd()]) is not None


def leaf_configs(tasks: Sequence[str], settings: TaskSettings) -> list[list[dict[str, Any]]]:
    """Return of each task the configurations of the single tasks in it, without loading any data.

    Raises:
        ConfigError: if a task is unknown.
        InputError: if a local task's data are not there.
    """
    with _quiet():
        names, manager = _registered(tasks, settings)
        return [list(leaves(name, manager.task_index)) for name in names]


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
        member = _find_member(spec, folders)
        return _from_full_index(spec, index) if member is None else _register_alone(*member, index, data_root)
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


def _find_member(spec: str, folders: Sequence[Path]) -> tuple[dict[str, Any], Path] | None:
    """Return a task that stands inside a group, given as FOLDER/NAME, and the group's file, if there is one."""
    for file in files_that_say(spec, folders):
        members = _read(file).get("task")
        for member in members if isinstance(members, list) else []:
            if isinstance(member, Mapping) and member.get("task") == Path(spec).name:
                return dict(member), file
    return None


def _register_alone(member: Mapping[str, Any], file: Path, index: dict[str, Entry], data_root: Path | None) -> str:
    """Put a member of a local group into the index by itself: a built-in task with what the group says of it."""
    name = str(member["task"])
    base = _read(_built_in()[name]) if name in _built_in() else {}
    index[name] = Entry(name, Kind.TASK, None, with_data({**base, **member}, file=file, data_root=data_root))
    return name


def _set_shots(loaded: Any, settings: TaskSettings) -> None:
    """Set how many examples stand before a question: as asked, else as the task says, else none."""
    wanted = dict(settings.shots)
    for name, group in loaded["groups"].items():
        if name in settings.shots:
            wanted |= dict.fromkeys((task.task_name for task in group.get_all_tasks()), settings.shots[name])
    for name, task in loaded["tasks"].items():
        if name in wanted or task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=wanted.get(name, 0))
        task.set_fewshot_seed(seed=settings.seed)


@functools.cache
def _built_in() -> dict[str, Path]:
    return names_in(sorted(_BUILT_IN.rglob("*.yaml"), key=lambda path: path.as_posix()))


@functools.cache
def _full_index(manager: Any) -> dict[str, Any]:
    index: dict[str, Any] = manager().task_index
    return index


def _from_full_index(spec: str, index: dict[str, Entry]) -> str:
    if "/" not in spec and not spec.endswith((".yaml", ".yml")):
        known = _full_index(TaskManager)
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
