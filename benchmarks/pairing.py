"""A candidate's numbers beside the dense model's, from two documents of `liptt eval --json`; needs no torch.

    excess = mean over windows of (candidate - dense),    standard error = sd of these differences / sqrt(windows)
    kept   = (accuracy - chance) / (dense accuracy - chance)

and the standard error of kept is that of a ratio of means over the same documents. A task without choices, such as
LAMBADA's last word, has chance 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_UNITS = 10_000


def paired_corpus(candidate: Mapping[str, Any], dense: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nats of a corpus, and what they are above dense; each window's in ten-thousandths."""
    pairs = zip(candidate["window_nats"], dense["window_nats"], strict=True)
    differences = [ours - theirs for ours, theirs in pairs]
    return {
        "tokens": candidate["tokens"],
        "nats": candidate["nats"],
        "excess": _mean(differences),
        "excess_standard_error": standard_error(differences),
        "excess_windows": " ".join(str(round(_UNITS * difference)) for difference in differences),
    }


def paired_task(candidate: Mapping[str, Any], dense: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the accuracy on a task, and the share of the dense one above chance that was kept.

    Raises:
        ValueError: if the two did not see the same documents.
    """
    if candidate["document_names"] != dense["document_names"]:
        raise ValueError("the two models did not see the same documents")
    ours, theirs = candidate["scores"]["acc"], dense["scores"]["acc"]
    chance = dense["chance"] or 0.0
    gained = _mean(theirs) - chance
    kept = (_mean(ours) - chance) / gained if gained > 0 else None
    ratio = None if kept is None else [mine - kept * other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "documents": len(ours),
        "chance": chance,
        "accuracy": _mean(ours),
        "accuracy_standard_error": standard_error(ours),
        "difference_standard_error": standard_error([mine - other for mine, other in zip(ours, theirs, strict=True)]),
        "kept": kept,
        "kept_standard_error": None if ratio is None else standard_error(ratio) / gained,
    }


def paired_difference(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> tuple[float, float] | None:
    """Return by how much our excess is above theirs on the same windows, and its standard error.

    Each side is one or more seeds of a method. Windows are averaged over seeds before they are paired; the spread of
    the seeds' means, where a side has several, is added to the error.

    Returns:
        None if a side has no windows, or they are not the same ones.
    """
    sides = [
        [[int(word) for word in found["excess_windows"].split()] for found in side if "excess_windows" in found]
        for side in (ours, theirs)
    ]
    if not all(sides) or len({len(windows) for side in sides for windows in side}) != 1:
        return None
    means = [[_mean(values) / _UNITS for values in zip(*side, strict=True)] for side in sides]
    differences = [mine - other for mine, other in zip(*means, strict=True)]
    spread = [standard_error([_mean(seed) / _UNITS for seed in side]) if len(side) > 1 else 0.0 for side in sides]
    return _mean(differences), math.hypot(standard_error(differences), *spread)


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of at least two values."""
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
