"""Differences of a candidate from a reference on the same windows and documents, with paired standard errors.

    d_i = candidate_i - reference_i,    standard error of the mean of d = sd(d) / sqrt(n)

The perplexity's relative difference is exp(d) - 1. Of a task with choices, the kept share

    k = (candidate - chance) / (reference - chance)

has the standard error of a ratio of means, sd(candidate_i - k * reference_i) / sqrt(n) / (reference - chance).
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from liptt_cli.errors import ConfigError
from liptt_cli.evaluation.results import Evaluation, TaskScores, standard_error
from liptt_cli.metrics.perplexity import Perplexity

_ACCURACIES = ("acc", "acc_norm")


@dataclass(frozen=True)
class Difference:
    """One number of two models: `name` is CORPUS.nats, CORPUS.perplexity or TASK.METRIC."""

    name: str
    candidate: float
    reference: float
    difference: float
    standard_error: float | None
    kept_share: float | None = None
    kept_standard_error: float | None = None

    def to_json(self) -> dict[str, object]:
        """Return all fields, and the difference relative to the reference; null for what is no finite number."""
        relative = self.difference / self.reference if self.reference else None
        fields = {**asdict(self), "relative_difference": relative}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in fields.items()
        }


def compare(candidate: Evaluation, reference: Evaluation) -> list[Difference]:
    """Return the difference of every number that both models have.

    Raises:
        ConfigError: if the two were not measured on the same text.
    """
    found: list[Difference] = []
    for name, perplexity in candidate.perplexity.items():
        if name in reference.perplexity:
            found.extend(_of_corpus(name, perplexity, reference.perplexity[name]))
    for name, scores in candidate.tasks.items():
        if name in reference.tasks:
            found.extend(_of_task(name, scores, reference.tasks[name]))
    return found


def _of_corpus(name: str, candidate: Perplexity, reference: Perplexity) -> Iterator[Difference]:
    same = (candidate.window_tokens, candidate.stride, len(candidate.window_nats))
    if same != (reference.window_tokens, reference.stride, len(reference.window_nats)):
        raise ConfigError(f"{name}: the two models were not measured on the same windows; evaluate both alike.")
    differences = [ours - theirs for ours, theirs in zip(candidate.window_nats, reference.window_nats, strict=True)]
    error = standard_error(differences) if len(differences) > 1 else None
    yield Difference(f"{name}.nats", candidate.nats, reference.nats, candidate.nats - reference.nats, error)
    ours, theirs = candidate.perplexity, reference.perplexity
    yield Difference(f"{name}.perplexity", ours, theirs, ours - theirs, None if error is None else ours * error)


def _of_task(name: str, candidate: TaskScores, reference: TaskScores) -> Iterator[Difference]:
    if candidate.documents != reference.documents:
        raise ConfigError(f"{name}: the two models did not see the same documents; use the same limit and seed.")
    for metric, ours in candidate.metrics.items():
        if metric not in reference.metrics:
            continue
        theirs = reference.metrics[metric]
        error = kept = kept_error = None
        pairs = list(zip(candidate.scores.get(metric, []), reference.scores.get(metric, []), strict=True))
        if len(pairs) > 1:
            error = standard_error([mine - other for mine, other in pairs])
            if metric in _ACCURACIES and reference.chance is not None and theirs > reference.chance:
                gained = theirs - reference.chance
                kept = (ours - reference.chance) / gained
                kept_error = standard_error([mine - kept * other for mine, other in pairs]) / gained
        yield Difference(f"{name}.{metric}", ours, theirs, ours - theirs, error, kept, kept_error)
