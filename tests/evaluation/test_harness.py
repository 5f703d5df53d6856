"""The harness run on local tasks: found from anywhere, subsets by seed, scores a document, nothing on stdout."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.tasks._index import Entry, Kind
from tqdm.std import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from liptt_cli.errors import ConfigError, InputError
from liptt_cli.evaluation import harness
from liptt_cli.evaluation.harness import TaskSettings, is_local, leaf_configs, require_known, run_tasks
from liptt_cli.evaluation.task_tree import leaves

SUBJECTS = ["A block", "The sign", "Each core", "A row", "The text", "Every linear", "One scale", "The cores"]
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: data/items.jsonl}}
  cache_dir: {cache}
test_split: test
output_type: multiple_choice
doc_to_text: subject
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
"""
GROUP = """\
group: pair
task:
  - task: left
    {body}
  - task: right
    {body}
"""


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with data/items.jsonl, and tasks/cloze.yaml that names it relative to the folder."""
    rows = [{"subject": s, "choices": ["is read", "is a row of signs"], "label": i % 2} for i, s in enumerate(SUBJECTS)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/cloze.yaml").write_text(TASK.format(name="cloze", cache=tmp_path / "cache"))
    return tmp_path


def likelihood(model: Any, tokenizer: Any, subject: str, choice: str) -> float:
    """The log-probability of a choice after its subject, computed directly."""
    tokens = tokenizer(f"{subject} {choice}", return_tensors="pt")["input_ids"]
    context = len(tokenizer(subject)["input_ids"])
    with torch.no_grad():
        logs = model(tokens).logits[0, :-1].log_softmax(-1)
    return logs[range(context - 1, tokens.shape[1] - 1), tokens[0, context:]].sum().item()


def test_scores_are_those_of_a_direct_computation(
    model: Any, tokenizer: Any, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From a working directory that has nothing to do with the data."""
    monkeypatch.chdir(tmp_path_factory.mktemp("away"))
    found = run_tasks(model, tokenizer, [str(root / "tasks/cloze.yaml")], settings=TaskSettings(batch_size=3))["cloze"]
    expected = []
    for line in (root / "data/items.jsonl").read_text().splitlines():
        row = json.loads(line)
        likelihoods = [likelihood(model, tokenizer, row["subject"], choice) for choice in row["choices"]]
        expected.append(float(likelihoods.index(max(likelihoods)) == row["label"]))
    assert found.scores == {"acc": expected}
    assert found.metrics == {"acc": sum(expected) / 8}
    assert found.documents == [str(number) for number in range(8)]
    assert (found.chance, found.higher_is_better, found.subtasks) == (0.5, {"acc": True}, [])
    json.dumps(found.to_json(), allow_nan=False)


def test_a_limit_draws_a_fixed_subset_whose_scores_are_the_same(model: Any, tokenizer: Any, root: Path) -> None:
    task = str(root / "tasks/cloze")
    every = run_tasks(model, tokenizer, [task], settings=TaskSettings())["cloze"]
    draws = [
        run_tasks(model, tokenizer, [task], settings=TaskSettings(limit=3, seed=seed))["cloze"] for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1]
    assert {len(drawn.documents) for drawn in draws} == {3}
    assert any(drawn.documents != ["0", "1", "2"] for drawn in draws)
    for drawn in draws:
        assert drawn.scores["acc"] == [every.scores["acc"][int(document)] for document in drawn.documents]
    assert len(run_tasks(model, tokenizer, [task], settings=TaskSettings(limit=99))["cloze"].documents) == 8


def test_a_group_of_inline_tasks_is_run_and_put_together(model: Any, tokenizer: Any, root: Path) -> None:
    body = "\n    ".join(TASK.format(name="-", cache=root / "cache").splitlines()[1:])
    (root / "tasks/pair.yaml").write_text(GROUP.format(body=body))
    found = run_tasks(model, tokenizer, [str(root / "tasks/pair.yaml")], settings=TaskSettings(limit=5))
    assert sorted(found) == ["left", "pair", "right"]
    assert found["pair"].subtasks == ["left", "right"]
    assert found["pair"].scores["acc"] == found["left"].scores["acc"] + found["right"].scores["acc"]
    assert found["left"].documents != found["right"].documents


def test_a_built_in_task_with_local_data_keeps_its_own_prompts(model: Any, tokenizer: Any, root: Path) -> None:
    row = {"question": "Which?", "choices": {"text": ["this", "that"], "label": ["A", "B"]}, "answerKey": "B"}
    (root / "data/arc.jsonl").write_text(json.dumps(row) + "\n")
    cache = root / "cache"
    (root / "tasks/local.yaml").write_text(
        "group: local\ntask:\n- task: arc_easy\n  dataset_path: json\n  dataset_name: null\n  training_split: null\n"
        f"  validation_split: null\n  dataset_kwargs: {{data_files: {{test: data/arc.jsonl}}, cache_dir: {cache}}}\n"
    )
    found = run_tasks(model, tokenizer, [str(root / "tasks/local.yaml")], settings=TaskSettings())
    assert set(found["arc_easy"].metrics) == {"acc", "acc_norm"}
    assert found["local"].documents == ["arc_easy/0"]


def test_a_member_of_a_group_is_run_alone(model: Any, tokenizer: Any, root: Path) -> None:
    body = "\n    ".join(TASK.format(name="-", cache=root / "cache").splitlines()[1:])
    (root / "tasks/pair.yaml").write_text(GROUP.format(body=body))
    spec = f"{root}/tasks/right"
    assert is_local(spec)
    assert not is_local(f"{root}/tasks/middle")
    assert list(run_tasks(model, tokenizer, [spec], settings=TaskSettings(limit=2))) == ["right"]


def test_shots_are_set_by_task_and_by_group(
    model: Any, tokenizer: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "\n    ".join([*TASK.format(name="-", cache=root / "cache").splitlines()[1:], "fewshot_split: test"])
    (root / "tasks/pair.yaml").write_text(GROUP.format(body=body))
    lengths: list[int] = []
    called = harness._Watched._model_call
    monkeypatch.setattr(
        harness._Watched, "_model_call", lambda self, inps, *rest: lengths.append(inps.shape[1]) or called(self, inps)
    )
    longest = {}
    for name, shots in {"none": {}, "group": {"pair": 2}, "task": {"right": 2}}.items():
        lengths.clear()
        run_tasks(model, tokenizer, [str(root / "tasks/pair.yaml")], settings=TaskSettings(limit=1, shots=shots))
        longest[name] = max(lengths)
    assert longest["group"] > 2 * longest["none"]
    assert longest["task"] > 2 * longest["none"]


def test_leaves_are_those_inside_groups_and_tags() -> None:
    (group, single) = leaf_configs(["blimp", "boolq"], TaskSettings())
    assert len(group) == 67
    assert [leaf["dataset_path"] for leaf in single] == ["aps/super_glue"]
    entries = {"tag": Entry("tag", Kind.TAG, None, None, {"b", "a"})}
    entries |= {name: Entry(name, Kind.TASK, None, {"task": name}) for name in "ab"}
    assert list(leaves("tag", entries)) == [{"task": "a"}, {"task": "b"}]


def test_stdout_stays_clean_and_what_was_borrowed_is_given_back(
    model: Any, tokenizer: Any, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger, started = logging.getLogger("lm_eval"), tqdm.__init__
    level = logger.level
    model.train()
    told: list[tuple[int, int]] = []
    run_tasks(
        model,
        tokenizer,
        [str(root / "tasks/cloze.yaml")],
        settings=TaskSettings(batch_size=5),
        progress=lambda done, total: told.append((done, total)),
    )
    assert capfd.readouterr() == ("", "")
    assert told[0] == (5, 16)
    assert told[-1] == (16, 16)
    assert (logger.level, tqdm.__init__) == (level, started)
    assert model.training
    assert tokenizer.pad_token is None


def test_a_known_name_needs_no_full_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def indexed() -> None:
        raise AssertionError("the full index was built")

    monkeypatch.setattr(harness, "_from_full_index", lambda spec, index: indexed())
    names = ["hellaswag", "mmlu_anatomy", "winogrande", "boolq", "blimp"]
    assert require_known(names, TaskSettings()) == names


class Index:
    """Stands for the full index, which takes 20 seconds."""

    def __init__(self, include_defaults: bool = True) -> None:
        self.task_index: dict[str, Any] = {"arc_easy": None, "hellaswag": None} if include_defaults else {}


def test_an_unknown_name_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "TaskManager", Index)
    with pytest.raises(ConfigError, match="unknown task 'helaswag'. Did you mean 'hellaswag'") as caught:
        require_known(["helaswag"], TaskSettings())
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("spec", ["absent/task.yaml", "tasks/absent"])
def test_an_absent_file_is_refused_without_the_index(root: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(ConfigError, match="no task file"):
        require_known([spec], TaskSettings())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: [\n", "cannot|not a task"),
        ("- a\n", "not a task"),
        ("output_type: x\n", "no 'task: NAME'"),
        ("", "not a"),
    ],
)
def test_a_broken_file_is_refused_by_name(root: Path, text: str, words: str) -> None:
    (root / "tasks/broken.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        require_known([str(root / "tasks/broken.yaml")], TaskSettings())
    assert "broken.yaml" in str(caught.value)


def test_absent_and_broken_data_are_input_errors(model: Any, tokenizer: Any, root: Path) -> None:
    with pytest.raises(InputError, match="--data-root"):
        require_known([str(root / "tasks/cloze.yaml")], TaskSettings(data_root=root / "tasks"))
    (root / "data/items.jsonl").write_text("{broken\n")
    with pytest.raises(InputError, match="cloze"):
        run_tasks(model, tokenizer, [str(root / "tasks/cloze.yaml")], settings=TaskSettings())


def test_two_groups_with_one_task_are_refused(model: Any, tokenizer: Any, root: Path) -> None:
    for name in ("one", "two"):
        (root / f"tasks/{name}.yaml").write_text(f"group: {name}\ntask: [cloze]\n")
    tasks = [str(root / f"tasks/{name}.yaml") for name in ("one", "two")]
    with pytest.raises(ConfigError, match="cannot build"):
        run_tasks(model, tokenizer, tasks, settings=TaskSettings())


@pytest.mark.outside
def test_the_offline_tasks_run_from_anywhere(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    place = shared_data / "models/stories260K/hf"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    folder = shared_data / "data/lm_eval_tasks"
    tasks = [str(folder / "blimp_offline.yaml"), str(folder / "lambada_openai_offline")]
    found = run_tasks(model, tokenizer, tasks, settings=TaskSettings(limit=2, batch_size=16))
    assert len(found["blimp_offline"].subtasks) == 67
    assert len(found["blimp_offline"].documents) == 134
    assert found["blimp_offline"].chance == 0.5
    assert set(found["lambada_openai_offline"].metrics) == {"acc", "perplexity"}


@pytest.mark.outside
def test_built_in_definitions_with_offline_data_are_found(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "_from_full_index", lambda spec, index: pytest.fail(f"{spec} needed the full index"))
    names, manager = harness._registered([str(shared_data / "data/lm_eval_tasks/builtin_offline.yaml")], TaskSettings())
    assert names == ["builtin_offline"]
    assert {"arc_easy", "gsm8k", "mmlu_anatomy", "wikitext", "winogrande"} <= set(manager.task_index)
    group = manager.task_index["builtin_offline"].cfg
    files = [Path(file) for task in group["task"] for file in task["dataset_kwargs"]["data_files"].values()]
    assert all(file.is_absolute() and file.is_file() for file in files)
