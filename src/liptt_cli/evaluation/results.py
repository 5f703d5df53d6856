"""What an evaluation found, ready for JSON: tasks' scores a document and perplexities a window."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from liptt_cli.metrics.perplexity import Perplexity


@dataclass(frozen=True)
class TaskScores:
    """A task or a group of tasks: its metrics, and each document's score, which pairs it with another model.

    `scores` holds a metric only if it is the mean of one number a document; `documents` then names them.
    A group's documents are those of all its tasks, so that each document weighs the same.
    """

    name: str
    metrics: dict[str, float]
    scores: dict[str, list[float]]
    documents: list[str]
    higher_is_better: dict[str, bool] = field(default_factory=dict)
    chance: float | None = None
    subtasks: list[str] = field(default_factory=list)

    def standard_error(self, metric: str) -> float | None:
        """Return the standard error of a metric's mean over documents; None where it is not such a mean."""
        scores = self.scores.get(metric, [])
        return standard_error(scores) if len(scores) > 1 else None

    def to_json(self) -> dict[str, object]:
        """Return the metrics by name, their standard errors and everything that pairing needs."""
        return {
            **self.metrics,
            "standard_errors": {metric: self.standard_error(metric) for metric in self.metrics},
            "higher_is_better": self.higher_is_better,
            "documents": len(self.documents),
            "chance": self.chance,
            "subtasks": self.subtasks,
            "scores": self.scores,
            "document_names": self.documents,
        }


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured of one model, with the settings and the corpora's sha256.

    `sections` are the numbers of a suite's sections, by section and number, such as `speed` and `peak_bytes`.
    """

    perplexity: dict[str, Perplexity]
    tasks: dict[str, TaskScores]
    corpora: dict[str, str]
    settings: dict[str, object]
    seconds: float
    sections: dict[str, dict[str, float]] = field(default_factory=dict)

    def asked(self) -> list[str]:
        """Return the tasks and groups that were asked for, without the members of a group."""
        members = {member for scores in self.tasks.values() for member in scores.subtasks}
        return [name for name in self.tasks if name not in members]

    def to_json(self) -> dict[str, object]:
        """Return it all as JSON."""
        return {
            "perplexity": {name: found.to_json() for name, found in self.perplexity.items()},
            "tasks": {name: found.to_json() for name, found in self.tasks.items()},
            "corpora": self.corpora,
            "settings": self.settings,
            "seconds": self.seconds,
        }


def grouped(name: str, members: Sequence[TaskScores]) -> TaskScores:
    """Put tasks together: the metrics that all of them have a document's score for, each document weighing the same."""
    shared = [metric for metric in members[0].scores if all(metric in member.scores for member in members)]
    scores = {metric: [score for member in members for score in member.scores[metric]] for metric in shared}
    chances = [member.chance for member in members for _ in member.documents if member.chance is not None]
    documents = [f"{member.name}/{document}" for member in members for document in member.documents]
    return TaskScores(
        name,
        {metric: math.fsum(found) / len(found) for metric, found in scores.items()},
        scores,
        documents,
        {metric: members[0].higher_is_better[metric] for metric in shared},
        math.fsum(chances) / len(chances) if len(chances) == len(documents) else None,
        [member.name for member in members],
    )


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of at least two values."""
    count = len(values)
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)


def flat(evaluation: Evaluation) -> Mapping[str, float]:
    """Return every number by its name, such as `stdlib.nats`, `stdlib_cloze.acc` or `reasoning.mean`."""
    corpora = {
        f"{name}.{kind}": value
        for name, found in evaluation.perplexity.items()
        for kind, value in (("nats", found.nats), ("perplexity", found.perplexity))
    }
    tasks = {
        f"{name}.{metric}": value for name, found in evaluation.tasks.items() for metric, value in found.metrics.items()
    }
    sections = {f"{name}.{kind}": value for name, found in evaluation.sections.items() for kind, value in found.items()}
    return corpora | tasks | sections
