"""What the harness found of a task, as scores: every metric, and a number for each document where it is their mean."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from liptt_cli.errors import InputError
from liptt_cli.evaluation.results import TaskScores


def scores_of(name: str, task: Any, found: Mapping[str, Any]) -> TaskScores:
    """Return the scores of one task of the harness's results.

    Raises:
        InputError: if it has no documents.
    """
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
