"""Scores put together, standard errors, numbers by name."""

import json
import math
import statistics

import pytest

from liptt_cli.evaluation.results import Evaluation, TaskScores, flat, grouped, standard_error
from liptt_cli.metrics.perplexity import Perplexity


def task(name: str, scores: list[float], chance: float | None = 0.5) -> TaskScores:
    mean = sum(scores) / len(scores)
    documents = [str(number) for number in range(len(scores))]
    return TaskScores(name, {"acc": mean, "extra": 1.0}, {"acc": scores}, documents, {"acc": True}, chance)


def test_a_group_weighs_each_document_the_same() -> None:
    group = grouped("both", [task("a", [1.0, 0.0, 0.0]), task("b", [1.0], chance=0.25)])
    assert group.metrics == {"acc": 0.5}
    assert group.documents == ["a/0", "a/1", "a/2", "b/0"]
    assert group.chance == pytest.approx((3 * 0.5 + 0.25) / 4)
    assert group.subtasks == ["a", "b"]


def test_a_group_has_only_what_all_its_tasks_have() -> None:
    other = TaskScores("c", {"ppl": 3.0}, {}, ["0"])
    group = grouped("both", [task("a", [1.0]), other])
    assert group.metrics == {}
    assert group.chance is None


def test_standard_error_is_the_textbooks() -> None:
    values = [0.0, 1.0, 1.0, 4.0]
    assert standard_error(values) == pytest.approx(statistics.stdev(values) / 2)


def test_an_evaluation_is_json_and_names_its_numbers() -> None:
    scores = task("a", [1.0, 0.0])
    group = grouped("g", [scores])
    found = Evaluation(
        {"stdlib": Perplexity("stdlib", 6, 2.0, 0.1, 4, 4, [1.9, 2.1])},
        {"a": scores, "g": group},
        {"stdlib": "00"},
        {},
        1.0,
    )
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["tasks"]["a"]["acc"] == 0.5
    assert document["tasks"]["a"]["standard_errors"] == {"acc": pytest.approx(0.5), "extra": None}
    assert document["perplexity"]["stdlib"]["window_nats"] == [1.9, 2.1]
    assert flat(found) == {
        "stdlib.nats": 2.0,
        "stdlib.perplexity": pytest.approx(math.exp(2)),
        "a.acc": 0.5,
        "a.extra": 1.0,
        "g.acc": 0.5,
    }
    assert found.asked() == ["g"]
