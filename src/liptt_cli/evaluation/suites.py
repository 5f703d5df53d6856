"""Suites: lists of harness tasks, or of what is measured, in sections, and the mean of each section.

The dimensions are those by which quantised language models are judged: knowledge and capacity, alignment, efficiency
(Jin et al. 2024, arXiv:2402.16775). In a mean each task weighs the same, whatever its number of documents; as tasks
are independent samples, its standard error is the root of the sum of their squares over their number.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from liptt_cli.config import configs_folder, parse_yaml
from liptt_cli.config_faults import faults, nearest
from liptt_cli.errors import ConfigError, InputError
from liptt_cli.evaluation import stdlib_task
from liptt_cli.evaluation.compare import Difference
from liptt_cli.evaluation.harness import TaskSettings, is_local, leaf_configs, require_known
from liptt_cli.evaluation.results import Evaluation, TaskScores
from liptt_cli.evaluation.task_files import LOCAL_READERS, find_task_file
from liptt_cli.menu.suite import Measure, Suite, SuiteSection, SuiteTask
from liptt_cli.models import hub


@dataclass(frozen=True)
class Task:
    """One task of a section: what the harness is told, and its name there."""

    spec: str
    name: str
    metric: str
    shots: int | None


@dataclass(frozen=True)
class Section:
    """One section of a suite, its tasks found."""

    suite: str
    name: str
    title: str
    tasks: tuple[Task, ...]
    measures: tuple[Measure, ...]

    def mean(self, found: Evaluation) -> tuple[float, float | None] | None:
        """Return the mean of the tasks' metrics and its standard error; None if more is not better in all of them."""
        pairs = [(found.tasks[task.name], task.metric) for task in self.tasks]
        if not pairs or not all(scores.higher_is_better[metric] for scores, metric in pairs):
            return None
        return _mean([(scores.metrics[metric], scores.standard_error(metric)) for scores, metric in pairs])

    def mean_difference(self, differences: Mapping[str, Difference]) -> tuple[float, float | None]:
        """Return the mean of the tasks' differences from the reference, paired by document, and its standard error."""
        found = [differences[f"{task.name}.{task.metric}"] for task in self.tasks]
        return _mean([(each.difference, each.standard_error) for each in found])


def shipped_suites() -> dict[str, Path]:
    """Return the suites that come with liptt by name."""
    return {path.stem: path for path in sorted((configs_folder() / "suites").glob("*.yaml"))}


def load_suite(name: str) -> tuple[Suite, Path]:
    """Read a suite, the name of a shipped one or a YAML file, and return it with its path.

    Raises:
        ConfigError: if there is none of that name, or with every fault of the file.
    """
    shipped = shipped_suites()
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else shipped.get(name)
    if path is None or not path.is_file():
        raise ConfigError(
            f"--suite {name}: no such suite.{nearest(name, shipped)} Shipped: {', '.join(shipped)}; or give the path "
            "of a YAML file of your own."
        )
    tree = parse_yaml(path.read_text(encoding="utf-8"), name=str(path))
    try:
        return Suite.model_validate(tree.plain()), path
    except ValidationError as error:
        raise ConfigError(*faults(error, tree=tree, model=Suite)) from None


def read_sections(names: Sequence[str], settings: TaskSettings, *, folder: Path | None = None) -> list[Section]:
    """Read suites, and make sure that all their tasks can be run.

    Args:
        names: of shipped suites, or YAML files.
        settings: where the tasks' data are.
        folder: of task files; the suites' lists of offline tasks are looked for there, and nowhere else.

    Raises:
        ConfigError: if a suite or a task is unknown, or has no such metric.
        InputError: if tasks are not in the folder, or their data not on this machine and not to be had from the hub.
    """
    found: list[Section] = []
    for name in names:
        suite, path = load_suite(name)
        if folder is not None:
            _require_offline(suite, folder)
        found.extend(_sections(suite, path, folder))
    twice = [section.name for section in found if [other.name for other in found].count(section.name) > 1]
    if twice:
        raise ConfigError(f"--suite: two sections are called {twice[0]!r}; a gate could not tell them apart")
    return _ready(found, settings)


def shots_of(sections: Sequence[Section]) -> dict[str, int]:
    """Return the number of examples by task.

    Raises:
        ConfigError: if a task shall have two numbers at once.
    """
    shots: dict[str, int] = {}
    for task in (task for section in sections for task in section.tasks if task.shots is not None):
        if shots.setdefault(task.name, task.shots or 0) != task.shots:
            raise ConfigError(f"--suite: {task.name} is asked for with {shots[task.name]} and with {task.shots} shots")
    return shots


def with_means(found: Evaluation, sections: Sequence[Section]) -> Evaluation:
    """Return an evaluation with the mean of each section that has one."""
    means = {section.name: section.mean(found) for section in sections}
    return dataclasses.replace(
        found, sections={**found.sections, **{name: {"mean": mean[0]} for name, mean in means.items() if mean}}
    )


def section_json(section: Section, found: Evaluation, differences: Sequence[Difference]) -> dict[str, Any]:
    """Return a section's tasks and mean, beside the reference if there is one."""
    beside = {difference.name: difference for difference in differences}
    mean = section.mean(found)
    document: dict[str, Any] = {"suite": section.suite, "section": section.name, "title": section.title}
    document["tasks"] = [_task_json(task, found.tasks[task.name], beside) for task in section.tasks]
    document["mean"] = None if mean is None else {"value": mean[0], "standard_error": mean[1]}
    if mean is not None and beside:
        change, error = section.mean_difference(beside)
        document["mean"] |= {"reference": mean[0] - change, "difference": change, "difference_standard_error": error}
    return document


def _task_json(task: Task, scores: TaskScores, beside: Mapping[str, Difference]) -> dict[str, Any]:
    difference = beside.get(f"{task.name}.{task.metric}")
    told = {
        "task": task.name,
        "metric": task.metric,
        "shots": task.shots,
        "documents": len(scores.documents),
        "chance": scores.chance,
        "higher_is_better": scores.higher_is_better[task.metric],
        "value": scores.metrics[task.metric],
        "standard_error": scores.standard_error(task.metric),
    }
    if difference is None:
        return told
    return told | {
        "reference": difference.reference,
        "difference": difference.difference,
        "difference_standard_error": difference.standard_error,
    }


def _mean(numbers: Sequence[tuple[float, float | None]]) -> tuple[float, float | None]:
    errors = [error for _, error in numbers if error is not None]
    mean = math.fsum(value for value, _ in numbers) / len(numbers)
    return mean, math.hypot(*errors) / len(numbers) if len(errors) == len(numbers) else None


def _require_offline(suite: Suite, folder: Path) -> None:
    """Refuse a suite without offline lists, and name every task that a folder lacks."""
    without = [section.name for section in suite.sections if section.tasks and not section.offline]
    if without:
        raise ConfigError(
            f"--suite-tasks: suite {suite.suite} has no offline tasks in {', '.join(without)}; leave --suite-tasks "
            "out to take its tasks from the hub, or write a suite of your own: --suite FILE"
        )
    wanted = [task.task for section in suite.sections for task in section.offline]
    absent = [task for task in wanted if not is_local(f"{folder.absolute()}/{task}")]
    if absent:
        raise InputError(
            f"--suite-tasks {folder}: {len(absent)} of the {len(wanted)} offline tasks of suite {suite.suite} are not "
            f"defined by the YAML files there: {', '.join(absent)}"
        )


def _sections(suite: Suite, path: Path, folder: Path | None) -> Iterator[Section]:
    for section in suite.sections:
        tasks = tuple(
            Task(_spec(task, path, folder), task.task, task.metric, task.shots) for task in _chosen(section, folder)
        )
        yield Section(suite.suite, section.name, section.title, tasks, tuple(section.measures))


def _chosen(section: SuiteSection, folder: Path | None) -> list[SuiteTask]:
    return section.tasks if folder is None else section.offline


def _spec(task: SuiteTask, path: Path, folder: Path | None) -> str:
    """Return what the harness is told: a file's absolute path, if the name is of one beside the suite."""
    if folder is not None:
        return f"{folder.absolute()}/{task.task}"
    beside = path.absolute().parent / task.task
    return str(beside) if find_task_file(str(beside), [path.parent]) is not None else task.task


def _ready(sections: Sequence[Section], settings: TaskSettings) -> list[Section]:
    """Give the tasks their names in the harness, and refuse what could not be run or has no such metric."""
    tasks = {task.spec: task for section in sections for task in section.tasks if task.spec != stdlib_task.NAME}
    names = dict(zip(tasks, require_known(list(tasks), settings), strict=True)) if tasks else {}
    leaves = dict(zip(tasks, leaf_configs(list(tasks), settings), strict=True)) if tasks else {}
    wrong = [words for section in sections for task in section.tasks for words in _without(task, leaves)]
    if wrong:
        raise ConfigError(*wrong)
    _require_data({names[spec]: found for spec, found in leaves.items()})
    return [
        dataclasses.replace(section, tasks=tuple(_named(task, names, leaves) for task in section.tasks))
        for section in sections
    ]


def _named(task: Task, names: Mapping[str, str], leaves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Task:
    """Return a task with its name in the harness, and its own number of shots where the suite tells none."""
    own = {leaf.get("num_fewshot") or 0 for leaf in leaves.get(task.spec, ())}
    shots = own.pop() if task.shots is None and len(own) == 1 else task.shots
    return dataclasses.replace(task, name=names.get(task.spec, task.name), shots=shots)


def _without(task: Task, leaves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield what is wrong with a task's metric, if something is."""
    for leaf in leaves.get(task.spec, ()):
        listed = [each["metric"] if isinstance(each, Mapping) else each for each in leaf.get("metric_list") or ()]
        filters = [each["name"] for each in leaf.get("filter_list") or ()] or ["none"]
        known = [name if chosen == "none" else f"{name},{chosen}" for name in listed for chosen in filters]
        if known and task.metric not in known:
            yield f"--suite: {task.name} has no metric {task.metric!r}; it has {', '.join(known)}"
            return


def _require_data(leaves: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Ask the hub once for every data set that is neither a local file nor in the cache."""
    asking: dict[str, list[str]] = {}
    for name, found in leaves.items():
        for dataset in sorted({str(leaf.get("dataset_path")) for leaf in found} - LOCAL_READERS - {"None"}):
            asking.setdefault(dataset, []).append(name)
    reasons = {dataset: hub.why_no_data(dataset) for dataset in asking if not Path(dataset).exists()}
    absent = [f"{name}, for {', '.join(asking[name])}: {reason}" for name, reason in reasons.items() if reason]
    if absent:
        advice = "connect, or name a folder of task files with --suite-tasks DIR"
        raise InputError(
            "\n".join([f"--suite: {len(absent)} data sets are neither here nor to be had; {advice}:", *absent])
        )
