"""`liptt eval --suite`: sections with their means, measured ones beside the dense model, gates, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from liptt_cli.cli.bench import Bench
from liptt_cli.cli.evaluate import evaluate_command
from liptt_cli.decoding.comparison import Comparison, Measured, Plan
from liptt_cli.errors import ConfigError, GateError, InputError, LipttError
from liptt_cli.metrics.speed import Round
from liptt_cli.models import hub

_TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: items.jsonl}}
  cache_dir: {cache}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: subject
doc_to_choice: choices
doc_to_target: label
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
_SUITE = """\
suite: mine
title: Mine
sections:
  - name: words
    title: which words follow
    tasks: [{task: first, metric: acc_norm}, {task: second, shots: 1}]
    offline: [{task: first}]
  - {name: cost, title: what it takes, measures: [bits_per_weight, peak_bytes, decode_tokens_per_second]}
"""


def run(*arguments: object) -> None:
    app = typer.Typer(add_completion=False)
    app.command()(evaluate_command)
    typer.main.get_command(app).main([str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite, its two tasks beside it."""
    rows = [{"subject": f"Row {i}", "choices": ["is read", "is a row of signs"], "label": i % 2} for i in range(8)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(_TASK.format(name=name, cache=tmp_path / "cache"))
    (tmp_path / "mine.yaml").write_text(_SUITE)
    return tmp_path


def engine(name: str, seconds: list[float], peak: int) -> Measured:
    rounds = tuple(Round(128, each, 63, each, each, each) for each in seconds)
    facts = {"peak_bytes": peak, "cache_bytes_per_token": 2, "weight_bytes_per_token": 1000}
    return Measured(name, facts, rounds, (1, 2), None, 0.1)


@pytest.fixture
def benched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """The bench without its processes: twice as fast as dense, three times in one round of three."""
    seen: list[tuple[int, int, int]] = []

    def measure(self: Bench, contestants: list[Any], *, rounds: int) -> Comparison:
        seen.append((len(contestants), self.prompt_tokens, self.new_tokens))
        engines = (engine("this model", [1.0, 1.0, 1.0], 10), engine("dense", [2.0, 2.0, 3.0], 40))
        plan = Plan(self.prompt_tokens, self.new_tokens, rounds, vocabulary=9)
        return Comparison(plan, engines[: len(contestants)], (1e9,) * 3)

    monkeypatch.setattr(Bench, "run", measure)
    return seen


def test_sections_have_rows_means_and_measured_numbers_beside_dense(
    folder: Path, packed_llama: Path, tiny_llama: Path, benched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    suite = ["--suite", folder / "mine.yaml", "--limit", 4, "--against", tiny_llama]
    gates = ["--fail-if", "words.mean<-100%", "--fail-if", "bits_per_weight>-50%"]
    run(packed_llama, *suite, *gates, "--json")
    document = json.loads(capsys.readouterr().out)
    words, cost = document["suites"]
    rows = [(row["task"], row["metric"], row["shots"], row["documents"]) for row in words["tasks"]]
    assert rows == [("first", "acc_norm", 0, 4), ("second", "acc", 1, 4)]
    found = [row["value"] for row in words["tasks"]]
    assert found == [document["tasks"]["first"]["acc_norm"], document["tasks"]["second"]["acc"]]
    assert words["mean"]["value"] == pytest.approx(sum(found) / 2)
    assert words["mean"]["difference"] == pytest.approx(words["mean"]["value"] - words["mean"]["reference"])
    assert cost["measures"]["bits_per_weight"]["reference"] == 32.0
    assert cost["measures"]["peak_bytes"] == {
        "value": 10.0,
        "reference": 40.0,
        "ratio": {"median": 0.25, "low": 0.25, "high": 0.25},
    }
    assert cost["measures"]["decode_tokens_per_second"]["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.5}
    assert [gate["name"] for gate in document["gates"]] == ["words.mean", "cost.bits_per_weight"]
    assert document["bench"]["engines"][1]["name"] == "dense"
    assert benched == [(2, 128, 64)]


def test_a_table_a_section(
    folder: Path, packed_llama: Path, tiny_llama: Path, benched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run(packed_llama, "--suite", folder / "mine.yaml", "--limit", 2, "--against", tiny_llama, "--activation-bits", 8)
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "mine, words: which words follow, activations of 8 bits",
        "chance dense compressed difference",
        "mean",
        "mine, cost: what it takes",
        "2.00x (2.00 to 2.50)",
    ):
        assert words in out


def test_efficiency_alone_loads_no_model_for_tasks(
    tiny_llama: Path, benched: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hub, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(GateError, match="speed.decode_tokens_per_second is 63, the limit 100"):
        run(tiny_llama, "--suite", "efficiency", "--fail-if", "decode_tokens_per_second<100")
    assert "decode_tokens_per_second 63" in " ".join(capsys.readouterr().out.split())
    assert benched == [(1, 128, 64)]


def test_offline_tasks_are_those_of_the_folder(
    folder: Path, tiny_llama: Path, benched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_llama, "--suite", folder / "mine.yaml", "--suite-tasks", folder, "--limit", 2, "--json")
    (words, cost) = json.loads(capsys.readouterr().out)["suites"]
    assert [row["task"] for row in words["tasks"]] == ["first"]
    assert cost["measures"]["peak_bytes"] == {"value": 10.0}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--suite", "knowlege"], ConfigError, "Did you mean 'knowledge'"),
        (["--suite-tasks", ".", "--tasks", "boolq"], ConfigError, "add --suite"),
        (["--suite", "hub.yaml"], InputError, "aps/super_glue, for boolq: OSError: no route"),
        (["--suite", "knowledge", "--suite-tasks", "."], InputError, "18 of the 18 offline tasks"),
        (["--suite", "efficiency", "--fail-if", "sped.mean<1"], ConfigError, "no section 'sped'"),
        (["--suite", "efficiency", "--fail-if", "size.file_bytes>-10%"], ConfigError, "--against"),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_is_loaded(
    arguments: list[str], error: type[LipttError], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub.yaml").write_text(
        "suite: hub\ntitle: t\nsections: [{name: hub, title: t, tasks: [{task: boolq}]}]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "locate", lambda *_, **__: pytest.fail("a model was looked for"))
    monkeypatch.setattr(hub, "why_no_data", lambda _: "OSError: no route")
    with pytest.raises(error, match=words):
        run("owner/name", *arguments)


@pytest.mark.outside
def test_a_suite_over_outside_tasks_finds_no_difference_between_a_model_and_itself(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text(
        "suite: own\ntitle: t\nsections:\n"
        "- {name: choice, title: t, offline: [{task: copa_offline}, {task: mmlu_anatomy, shots: 1}]}\n"
        "- {name: word, title: t, offline: [{task: lambada_openai_offline}]}\n"
    )
    place, tasks = shared_data / "models/stories260K/hf", shared_data / "data/lm_eval_tasks"
    suite = ["--suite", tmp_path / "own.yaml", "--suite-tasks", tasks, "--limit", 3]
    run(place, *suite, "--against", place, "--fail-if", "mean<-0%", "--json")
    choice, word = json.loads(capsys.readouterr().out)["suites"]
    assert [row["task"] for row in choice["tasks"]] == ["copa_offline", "mmlu_anatomy"]
    assert [section["mean"]["difference"] for section in (choice, word)] == [0.0, 0.0]
    assert {section["mean"]["difference_standard_error"] for section in (choice, word)} == {0.0}
