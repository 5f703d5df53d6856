"""Task files found by name, and the data they name found from anywhere."""

from pathlib import Path
from typing import Any

import pytest

from liptt_cli.errors import InputError
from liptt_cli.evaluation.task_files import find_task_file, names_in, with_data


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with data in root/data and a task file two folders below root/tasks."""
    (tmp_path / "root/data").mkdir(parents=True)
    (tmp_path / "root/data/a.jsonl").write_text("{}\n")
    (tmp_path / "root/tasks/deep").mkdir(parents=True)
    (tmp_path / "root/tasks/deep/file.yaml").write_text('"task": "named"\n')
    return tmp_path / "root"


def config(files: Any) -> dict[str, Any]:
    return {"task": "t", "dataset_path": "json", "dataset_kwargs": {"data_files": files, "cache_dir": "c"}}


@pytest.mark.parametrize("spec", ["deep/file.yaml", "deep/file", "deep/named"])
def test_a_task_is_found_by_path_with_or_without_ending_and_by_name(tree: Path, spec: str) -> None:
    found = find_task_file(spec, [Path("/absent"), tree / "tasks"])
    assert found == tree / "tasks/deep/file.yaml"


@pytest.mark.parametrize("spec", ["named", "deep/other", "deep", "absent/named"])
def test_what_is_no_task_file_is_not_found(tree: Path, spec: str) -> None:
    assert find_task_file(spec, [tree / "tasks"]) is None


def test_only_names_at_the_top_level_are_names(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("# task: comment\ngroup: 'outer'\ntask:\n  - task: inner\nother: x\n")
    assert names_in([file]) == {"outer": file}


def test_data_are_found_under_the_nearest_parent(tree: Path) -> None:
    file = tree / "tasks/deep/file.yaml"
    found = with_data(config({"test": "data/a.jsonl", "train": ["data/a.jsonl"]}), file=file, data_root=None)
    expected = str(tree / "data/a.jsonl")
    assert found["dataset_kwargs"] == {"data_files": {"test": expected, "train": [expected]}, "cache_dir": "c"}
    (tree / "tasks/data").mkdir()
    (tree / "tasks/data/a.jsonl").write_text("{}\n")
    nearer = with_data(config("data/a.jsonl"), file=file, data_root=None)
    assert nearer["dataset_kwargs"]["data_files"] == str(tree / "tasks/data/a.jsonl")


def test_a_data_root_is_the_only_place(tree: Path, tmp_path: Path) -> None:
    file = tree / "tasks/deep/file.yaml"
    found = with_data(config("a.jsonl"), file=file, data_root=tree / "data")
    assert found["dataset_kwargs"]["data_files"] == str(tree / "data/a.jsonl")
    with pytest.raises(InputError, match="--data-root"):
        with_data(config("data/a.jsonl"), file=file, data_root=tmp_path)


def test_members_of_a_group_are_resolved_at_every_depth_and_the_users_own_is_left_alone(tree: Path) -> None:
    inner = {"group": "sub", "task": [config("data/a.jsonl")]}
    group = {"group": "g", "task": ["name", inner, config("data/*.jsonl")]}
    found = with_data(group, file=tree / "tasks/deep/file.yaml", data_root=None)
    assert found["task"][0] == "name"
    assert found["task"][1]["task"][0]["dataset_kwargs"]["data_files"] == str(tree / "data/a.jsonl")
    assert found["task"][2]["dataset_kwargs"]["data_files"] == str(tree / "data/*.jsonl")
    assert inner["task"][0]["dataset_kwargs"]["data_files"] == "data/a.jsonl"


def test_what_is_not_on_this_machine_is_left_alone(tree: Path) -> None:
    hub = {"task": "t", "dataset_path": "owner/name", "dataset_kwargs": {"data_files": "part.json"}}
    remote = config("https://example.org/a.jsonl")
    for given in (hub, remote, {"task": "t", "dataset_path": "json"}):
        assert with_data(given, file=tree / "x.yaml", data_root=None) == given


def test_absent_data_name_all_the_paths_tried(tree: Path) -> None:
    file = tree / "tasks/deep/file.yaml"
    with pytest.raises(InputError) as caught:
        with_data(config("data/b.jsonl"), file=file, data_root=None)
    for folder in ("tasks/deep", "tasks", "."):
        assert str(tree / folder / "data/b.jsonl") in str(caught.value)
    assert caught.value.exit_status == 3
