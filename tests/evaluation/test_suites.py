"""Suites: the shipped ones name tasks that exist, a list is refused before it is run, means and their errors."""

import json
import math
from pathlib import Path

import pytest

from liptt_cli.errors import ConfigError, InputError
from liptt_cli.evaluation import harness
from liptt_cli.evaluation.compare import compare
from liptt_cli.evaluation.harness import TaskSettings, leaf_configs
from liptt_cli.evaluation.results import Evaluation, TaskScores
from liptt_cli.evaluation.suites import (
    load_suite,
    read_sections,
    section_json,
    shipped_suites,
    shots_of,
    with_means,
)
from liptt_cli.models import hub

_TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: items.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: subject
doc_to_choice: choices
doc_to_target: label
num_fewshot: 3
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
_GROUP = (
    "group: pair\ntask:\n- task: inside\n  dataset_path: json\n  dataset_kwargs: {data_files: {test: items.jsonl}}\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Task files `one` and `two`, and a group with `inside`."""
    (tmp_path / "items.jsonl").write_text(json.dumps({"subject": "A", "choices": ["b", "c"], "label": 0}) + "\n")
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(_TASK.format(name=name))
    (tmp_path / "pair.yaml").write_text(_GROUP)
    return tmp_path


def suite_of(folder: Path, *tasks: str, key: str = "tasks", name: str = "mine") -> str:
    """Write a suite of one section and return its path."""
    path = folder / f"{name}.yaml"
    path.write_text(f"suite: {name}\ntitle: t\nsections:\n- {{name: {name}, title: t, {key}: [{', '.join(tasks)}]}}\n")
    return str(path)


def test_the_three_dimensions_are_shipped():
    assert list(shipped_suites()) == ["alignment", "efficiency", "knowledge"]
    for name, path in shipped_suites().items():
        suite, found = load_suite(name)
        assert (suite.suite, found) == (name, path)
        head = path.read_text().splitlines()
        assert head[1].startswith("# Paper: ")
        assert any(line.startswith("# liptt eval RUN --suite ") for line in head)


@pytest.mark.parametrize("name", ["knowledge", "alignment"])
def test_every_shipped_task_is_in_the_harness_and_has_its_metric(name: str):
    """MMLU by one of its subjects: its tags need the full index, which takes 20 seconds."""
    tasks = {task.task: task.metric for section in load_suite(name)[0].sections for task in section.tasks}
    assert len(tasks) > 8
    assert set(tasks) <= set(harness._built_in())
    named = {"mmlu_anatomy" if task == "mmlu" else task: metric for task, metric in tasks.items()}
    for (task, metric), leaves in zip(named.items(), leaf_configs(list(named), TaskSettings()), strict=True):
        assert leaves
        for leaf in leaves:
            assert metric.partition(",")[0] in [each["metric"] for each in leaf["metric_list"]], task


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("suite: x\ntitle: t\nsections: []\n", "sections"),
        ("suite: x\ntitle: t\nsections:\n- {name: a, title: t}\n", "`tasks`"),
        ("suite: x\ntitle: t\nsections:\n- {name: a, title: t, measures: [speed]}\n", "measures"),
        ("suite: x\ntitle: t\nsections:\n- {name: a, title: t, task: [{task: boolq}]}\n", "Did you mean 'tasks'"),
    ],
)
def test_a_broken_suite_is_refused_with_its_place(tmp_path: Path, text: str, words: str):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_sections([str(tmp_path / "x.yaml")], TaskSettings())
    assert "x.yaml:" in str(caught.value)


def test_an_unknown_suite_is_told_with_the_nearest_and_the_list():
    with pytest.raises(
        ConfigError, match=r"Did you mean 'knowledge'\? Shipped: alignment, efficiency, knowledge"
    ) as caught:
        read_sections(["knowlege"], TaskSettings())
    assert caught.value.exit_status == 2
    with pytest.raises(ConfigError, match="absent.yaml: no such suite"):
        read_sections(["absent.yaml"], TaskSettings())


def test_tasks_beside_the_suite_are_found_with_their_own_shots(folder: Path):
    (section,) = read_sections([suite_of(folder, "{task: one}", "{task: two, shots: 1}")], TaskSettings())
    assert [(task.name, task.metric, task.shots) for task in section.tasks] == [("one", "acc", 3), ("two", "acc", 1)]
    assert shots_of([section]) == {"one": 3, "two": 1}


def test_offline_tasks_come_from_the_folder_also_out_of_a_group(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    suite = suite_of(tmp_path_factory.mktemp("away"), "{task: two}", "{task: inside}", key="offline")
    (section,) = read_sections([suite], TaskSettings(), folder=folder)
    assert [task.name for task in section.tasks] == ["two", "inside"]


def test_every_task_that_a_folder_lacks_is_named(folder: Path):
    wanted = [f"{{task: {name}}}" for name in ("one", "gone", "lost")]
    with pytest.raises(InputError, match=r"2 of the 3 offline tasks .*: gone, lost$"):
        read_sections([suite_of(folder, *wanted, key="offline")], TaskSettings(), folder=folder)
    with pytest.raises(ConfigError, match="has no offline tasks in truth"):
        read_sections(["alignment"], TaskSettings(), folder=folder)


def test_data_that_cannot_be_had_are_named_before_anything_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(hub, "why_no_data", lambda name: asked.append(name) or "OSError: no route")
    suite = suite_of(folder, "{task: one}", "{task: arc_easy}", "{task: arc_challenge}", "{task: boolq}")
    with pytest.raises(InputError) as caught:
        read_sections([suite], TaskSettings())
    assert str(caught.value).splitlines()[1:] == [
        "allenai/ai2_arc, for arc_easy, arc_challenge: OSError: no route",
        "aps/super_glue, for boolq: OSError: no route",
    ]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("{task: one, metric: f1}", "one has no metric 'f1'; it has acc, acc_norm"),
        ("{task: triviaqa, metric: exact_match}", "it has exact_match,remove_whitespace"),
    ],
)
def test_a_metric_that_a_task_has_not_is_refused(folder: Path, task: str, words: str):
    with pytest.raises(ConfigError, match=words):
        read_sections([suite_of(folder, task)], TaskSettings())


def test_what_gates_or_shots_could_not_tell_apart_is_refused(folder: Path):
    with pytest.raises(ConfigError, match="two sections are called 'mine'"):
        read_sections([suite_of(folder, "{task: one}")] * 2, TaskSettings())
    names = [suite_of(folder, f"{{task: one, shots: {shots}}}", name=f"with{shots}") for shots in (0, 5)]
    with pytest.raises(ConfigError, match="one is asked for with 0 and with 5 shots"):
        shots_of(read_sections(names, TaskSettings()))


def scores(name: str, right: list[int], *, better: bool = True) -> TaskScores:
    found = [float(each) for each in right]
    documents = [str(number) for number in range(len(found))]
    return TaskScores(name, {"acc": sum(found) / len(found)}, {"acc": found}, documents, {"acc": better}, 0.5)


def judged(one: list[int], two: list[int], *, better: bool = True) -> Evaluation:
    return Evaluation({}, {"one": scores("one", one), "two": scores("two", two, better=better)}, {}, {}, 0.0)


def test_in_a_mean_tasks_weigh_the_same_and_differences_are_paired(folder: Path):
    (section,) = read_sections([suite_of(folder, "{task: one}", "{task: two}")], TaskSettings())
    ours, theirs = judged([1, 0, 0, 1], [1, 1]), judged([1, 1, 0, 1], [1, 0])
    told = section_json(section, ours, compare(ours, theirs))
    assert told["mean"]["value"] == pytest.approx((0.5 + 1.0) / 2)
    assert told["mean"]["standard_error"] == pytest.approx(math.sqrt(1 / 3 / 4) / 2)
    assert told["mean"]["reference"] == pytest.approx((0.75 + 0.5) / 2)
    assert told["mean"]["difference"] == pytest.approx(0.125)
    errors = (0.5 / math.sqrt(4), math.sqrt(0.5) / math.sqrt(2))
    assert told["mean"]["difference_standard_error"] == pytest.approx(math.hypot(*errors) / 2)
    assert [task["difference"] for task in told["tasks"]] == [-0.25, 0.5]
    assert with_means(ours, [section]).sections == {"mine": {"mean": 0.75}}


def test_where_less_is_better_there_is_no_mean(folder: Path):
    (section,) = read_sections([suite_of(folder, "{task: one}", "{task: two}")], TaskSettings())
    found = judged([1, 0], [1, 0], better=False)
    assert section_json(section, found, [])["mean"] is None
    assert with_means(found, [section]).sections == {}


@pytest.mark.outside
def test_the_offline_list_of_knowledge_is_whole(shared_data: Path):
    sections = read_sections(["knowledge"], TaskSettings(), folder=shared_data / "data/lm_eval_tasks")
    assert [len(section.tasks) for section in sections] == [10, 3, 3, 2]
    assert {task.shots for task in sections[0].tasks} == {5}
