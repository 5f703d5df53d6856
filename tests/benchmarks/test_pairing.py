"""Paired numbers: equal to those of `liptt eval --against` on the same scores, and refused on other documents."""

import math

import pytest
from pairing import paired_corpus, paired_difference, paired_task

from liptt_cli.evaluation.compare import compare
from liptt_cli.evaluation.results import Evaluation, TaskScores
from liptt_cli.metrics.perplexity import Perplexity

DENSE_NATS, OUR_NATS = [3.0, 3.5, 2.5, 4.0], [3.2, 3.9, 2.6, 4.5]
DENSE_ACC, OUR_ACC = [1.0, 1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0, 1.0]


def evaluation(nats: list[float], acc: list[float], chance: float | None) -> Evaluation:
    perplexity = Perplexity("stdlib", 40, sum(nats) / len(nats), None, 10, 10, nats)
    names = [str(number) for number in range(len(acc))]
    scores = TaskScores("task", {"acc": sum(acc) / len(acc)}, {"acc": acc}, names, {"acc": True}, chance)
    return Evaluation({"stdlib": perplexity}, {"task": scores}, {}, {}, 1.0)


def test_agrees_with_the_package():
    ours, theirs = evaluation(OUR_NATS, OUR_ACC, 0.5), evaluation(DENSE_NATS, DENSE_ACC, 0.5)
    nats, _, acc = compare(ours, theirs)
    corpus = paired_corpus(ours.to_json()["perplexity"]["stdlib"], theirs.to_json()["perplexity"]["stdlib"])
    assert corpus["excess"] == pytest.approx(nats.difference)
    assert corpus["excess_standard_error"] == pytest.approx(nats.standard_error)
    task = paired_task(ours.to_json()["tasks"]["task"], theirs.to_json()["tasks"]["task"])
    assert task["kept"] == pytest.approx(acc.kept_share)
    assert task["kept_standard_error"] == pytest.approx(acc.kept_standard_error)


def test_a_task_without_choices_has_chance_nought():
    ours, theirs = evaluation(OUR_NATS, OUR_ACC, None), evaluation(DENSE_NATS, DENSE_ACC, None)
    task = paired_task(ours.to_json()["tasks"]["task"], theirs.to_json()["tasks"]["task"])
    assert task["chance"] == 0.0
    assert task["kept"] == pytest.approx(1.0)


def test_a_dense_model_at_chance_keeps_nothing_to_divide_by():
    theirs = evaluation(DENSE_NATS, [1.0, 0.0, 1.0, 0.0], 0.5).to_json()["tasks"]["task"]
    task = paired_task(theirs, theirs)
    assert task["kept"] is None
    assert task["kept_standard_error"] is None


def test_other_documents_are_refused():
    theirs = evaluation(DENSE_NATS, DENSE_ACC, 0.5).to_json()["tasks"]["task"]
    with pytest.raises(ValueError, match="same documents"):
        paired_task({**theirs, "document_names": ["7", "8", "9", "10", "11"]}, theirs)


def corpus_of(*windows: int) -> dict[str, str]:
    return {"excess_windows": " ".join(map(str, windows))}


def test_a_difference_is_paired_by_window():
    difference, error = paired_difference([corpus_of(1000, 3000)], [corpus_of(2000, 4000)])
    assert (difference, error) == (pytest.approx(-0.1), pytest.approx(0.0))


def test_seeds_are_averaged_and_their_spread_counts():
    one = paired_difference([corpus_of(1000, 2000)], [corpus_of(0, 0)])
    two = paired_difference([corpus_of(1000, 2000), corpus_of(3000, 4000)], [corpus_of(0, 0)])
    assert one == (pytest.approx(0.15), pytest.approx(0.05))
    assert two == (pytest.approx(0.25), pytest.approx(math.hypot(0.05, 0.1)))


def test_no_difference_of_other_windows():
    assert paired_difference([corpus_of(1, 2)], [corpus_of(1, 2, 3)]) is None
    assert paired_difference([corpus_of(1, 2)], [{"excess": 1.0}]) is None
