"""Paired differences against the textbook's formulas."""

import math
import statistics

import pytest

from liptt_cli.errors import ConfigError
from liptt_cli.evaluation.compare import Difference, compare
from liptt_cli.evaluation.results import Evaluation, TaskScores
from liptt_cli.metrics.perplexity import Perplexity

OURS, THEIRS = [2.0, 2.5, 3.5], [1.9, 2.1, 3.4]


def evaluation(nats: list[float], scores: list[float], chance: float | None = 0.25) -> Evaluation:
    mean = sum(nats) / len(nats)
    perplexity = Perplexity("stdlib", 3 * len(nats), mean, None, 4, 4, nats)
    task = TaskScores(
        "cloze", {"acc": sum(scores) / len(scores), "ppl": 7.0}, {"acc": scores}, list("abcd"), {}, chance
    )
    return Evaluation({"stdlib": perplexity}, {"cloze": task}, {}, {}, 0.0)


def by_name(candidate: Evaluation, reference: Evaluation) -> dict[str, Difference]:
    return {difference.name: difference for difference in compare(candidate, reference)}


def test_nats_are_paired_by_window() -> None:
    found = by_name(evaluation(OURS, [1.0] * 4), evaluation(THEIRS, [1.0] * 4))["stdlib.nats"]
    differences = [ours - theirs for ours, theirs in zip(OURS, THEIRS, strict=True)]
    assert found.difference == pytest.approx(0.2)
    assert found.standard_error == pytest.approx(statistics.stdev(differences) / math.sqrt(3))


def test_perplexity_difference_follows_from_the_nats() -> None:
    found = by_name(evaluation(OURS, [1.0] * 4), evaluation(THEIRS, [1.0] * 4))["stdlib.perplexity"]
    assert found.to_json()["relative_difference"] == pytest.approx(math.expm1(0.2))


def test_accuracy_is_paired_by_document_and_kept_over_chance() -> None:
    ours, theirs = [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]
    found = by_name(evaluation(OURS, ours), evaluation(THEIRS, theirs))["cloze.acc"]
    assert found.difference == pytest.approx(-0.25)
    assert found.standard_error == pytest.approx(statistics.stdev([0, -1, 0, 0]) / 2)
    assert found.kept_share == pytest.approx(0.5)
    residuals = [mine - 0.5 * other for mine, other in zip(ours, theirs, strict=True)]
    assert found.kept_standard_error == pytest.approx(statistics.stdev(residuals) / 2 / 0.5)


def test_the_same_model_twice_differs_by_nothing() -> None:
    for found in compare(evaluation(OURS, [1.0, 0.0, 1.0, 0.0]), evaluation(OURS, [1.0, 0.0, 1.0, 0.0])):
        assert found.difference == 0
        assert found.standard_error in (0, None)


def test_nothing_is_kept_of_a_reference_at_chance() -> None:
    found = by_name(evaluation(OURS, [1.0] * 4), evaluation(THEIRS, [1.0, 0.0, 0.0, 0.0]))["cloze.acc"]
    assert found.kept_share is None


def test_a_metric_without_document_scores_has_no_standard_error() -> None:
    assert by_name(evaluation(OURS, [1.0] * 4), evaluation(THEIRS, [1.0] * 4))["cloze.ppl"].standard_error is None


def test_different_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="same windows"):
        compare(evaluation(OURS, [1.0] * 4), evaluation(THEIRS[:2], [1.0] * 4))
    other = evaluation(THEIRS, [1.0] * 4)
    other.tasks["cloze"].documents.reverse()
    with pytest.raises(ConfigError, match="same documents"):
        compare(evaluation(OURS, [1.0] * 4), other)
