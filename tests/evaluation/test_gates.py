"""Gates read, judged and refused."""

from dataclasses import replace

import pytest

from liptt_cli.errors import ConfigError, GateError
from liptt_cli.evaluation.gates import judge, read_gates, require_passed
from liptt_cli.evaluation.results import Evaluation, TaskScores, grouped
from liptt_cli.metrics.perplexity import Perplexity


def evaluation(nats: float, accuracy: float) -> Evaluation:
    perplexity = {name: Perplexity(name, 9, nats, None, 4, 4, [nats]) for name in ("stdlib", "book.txt.gz")}
    task = TaskScores("cloze", {"acc": accuracy, "perplexity": 1e6}, {"acc": [accuracy]}, ["0"], {"acc": True})
    return Evaluation(perplexity, {"cloze": task, "all": grouped("all", [task])}, {}, {}, 0.0)


def passed(expression: str, *, nats: float = 2.0, accuracy: float = 0.5) -> bool:
    found = evaluation(nats, accuracy)
    gates = read_gates([expression], against=True, corpora=list(found.perplexity), tasks=["all"])
    return all(verdict.passed for verdict in judge(gates, found, evaluation(2.0, 0.5)))


@pytest.mark.parametrize(
    ("expression", "good", "bad"),
    [
        ("nats>+0.1", {"nats": 2.09}, {"nats": 2.11}),
        ("nats > 2.5", {"nats": 2.4}, {"nats": 2.6}),
        ("perplexity>+5%", {"nats": 2.04}, {"nats": 2.06}),
        ("perplexity>5%", {"nats": 2.04}, {"nats": 2.06}),
        ("perplexity>8", {"nats": 2.0}, {"nats": 2.1}),
        ("stdlib.perplexity>+5%", {"nats": 2.04}, {"nats": 2.06}),
        ("book.txt.gz.nats>=2.5", {"nats": 2.49}, {"nats": 2.5}),
        ("acc<0.4", {"accuracy": 0.4}, {"accuracy": 0.39}),
        ("acc<=0.4", {"accuracy": 0.41}, {"accuracy": 0.4}),
        ("acc<-2%", {"accuracy": 0.495}, {"accuracy": 0.485}),
        ("cloze.acc<-0.02", {"accuracy": 0.49}, {"accuracy": 0.47}),
    ],
)
def test_a_gate_holds_up_to_its_limit(expression: str, good: dict[str, float], bad: dict[str, float]) -> None:
    assert passed(expression, **good)
    assert not passed(expression, **bad)


def test_without_a_target_perplexity_means_corpora_and_acc_the_tasks_asked_for() -> None:
    found = evaluation(2.0, 0.5)
    gates = read_gates(["perplexity>1", "acc<1"], against=False, corpora=list(found.perplexity), tasks=["all"])
    assert [verdict.name for verdict in judge(gates, found)] == [
        "stdlib.perplexity",
        "book.txt.gz.perplexity",
        "all.acc",
    ]


def test_all_failed_gates_are_listed_with_their_numbers() -> None:
    found, reference = evaluation(2.5, 0.25), evaluation(2.0, 0.5)
    gates = read_gates(["stdlib.nats>+0.1", "acc<-2%", "nats>9"], against=True, corpora=["stdlib"], tasks=["all"])
    with pytest.raises(GateError) as caught:
        require_passed(judge(gates, found, reference))
    assert caught.value.exit_status == 6
    assert str(caught.value).splitlines() == [
        "2 of 4 quality gates failed:",
        "stdlib.nats>+0.1: stdlib.nats is 2.5, the limit 2.1 (reference 2)",
        "acc<-2%: all.acc is 0.25, the limit 0.49 (reference 0.5)",
    ]


def test_passed_gates_raise_nothing() -> None:
    gates = read_gates(["nats>9"], against=False, corpora=["stdlib"], tasks=[])
    require_passed(judge(gates, evaluation(2.0, 0.5)))


@pytest.mark.parametrize(
    "expression", ["", "perplexity", "perplexity=3", "acc<high", ">3", "acc<1.2.3", "acc<.", "acc<+%"]
)
def test_what_is_no_gate_is_refused_with_examples(expression: str) -> None:
    with pytest.raises(ConfigError, match=r"Examples: perplexity>\+5%") as caught:
        read_gates([expression], against=True, corpora=["stdlib"], tasks=["cloze"])
    assert caught.value.exit_status == 2


def test_all_faults_are_told_at_once() -> None:
    expressions = ["nats>+0.1", "acc<0.4", "mars.nats>3", "nonsense"]
    with pytest.raises(ConfigError) as caught:
        read_gates(expressions, against=False, corpora=["stdlib"], tasks=[])
    told = [fault.message for fault in caught.value.faults]
    assert ["--against" in told[0], "--tasks" in told[1], "not measured" in told[2], "form" in told[3]] == [True] * 4


def test_a_name_that_nothing_has_is_refused_with_those_there_are() -> None:
    gates = read_gates(["cloze.f1<0.4"], against=False, corpora=[], tasks=["cloze"])
    with pytest.raises(ConfigError, match=r"cloze\.acc"):
        judge(gates, evaluation(2.0, 0.5))


def test_sections_of_a_suite_are_judged_by_name_or_all_at_once() -> None:
    found, reference = (
        replace(evaluation(2.0, 0.5), sections={"facts": {"mean": mean}, "language": {"mean": 0.5}, "size": size})
        for mean, size in ((0.36, {"bits_per_weight": 1.1}), (0.4, {"bits_per_weight": 16.0}))
    )
    known = ["all", "facts", "language", "size"]
    gates = read_gates(
        ["mean<-5%", "facts.mean<-20%", "bits_per_weight>1", "size.bits_per_weight>-90%"],
        against=True,
        corpora=[],
        tasks=known,
    )
    verdicts = judge(gates, found, reference)
    assert [(verdict.name, verdict.passed) for verdict in verdicts] == [
        ("facts.mean", False),
        ("language.mean", True),
        ("facts.mean", True),
        ("size.bits_per_weight", False),
        ("size.bits_per_weight", True),
    ]


def test_a_mean_of_no_section_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="no section 'fact' of a suite is asked for; asked for are boolq, facts"):
        read_gates(["fact.mean<0.5"], against=False, corpora=[], tasks=["boolq", "facts"])
