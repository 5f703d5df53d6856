"""A run directory: whole files or none, one process at a time, nobody else's configuration."""

import errno
import json
import os
from pathlib import Path

import pytest

from liptt_cli.errors import ConfigError, InputError, OtherRunError, ResourceError, RunLockedError
from liptt_cli.run_directory import (
    MANIFEST,
    RESOLVED,
    STAGES,
    RunDirectory,
    Written,
    create,
    differences,
    look_at,
    read_manifest,
    reopen,
    sha256_of,
    write_bytes,
    write_file,
    write_json,
)

CONFIG = {"method": "sign", "seed": 0, "output": "runs", "load": {"skip": [], "dtype": "auto"}}


def written(**changes: object) -> Written:
    return Written(Path("/configs/sign.yaml"), "method: sign\n", "method: sign\nseed: 0\n", {**CONFIG, **changes})


@pytest.fixture
def run(tmp_path: Path):
    made = create(tmp_path / "runs" / "one", written())
    yield made
    made.release()


# Files


def test_a_file_is_written_beside_and_renamed(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fill(partial: Path) -> None:
        assert partial.parent == tmp_path and partial != path
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old"

    write_file(path, fill)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def full_disk_as_torch_tells() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1152 vs 1046") from None


def full_disk_as_safetensors_tells() -> None:
    raise ValueError("Error while serializing: I/O error: File too large (os error 27)")


def full_quota() -> None:
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.parametrize("fail", [full_disk_as_torch_tells, full_disk_as_safetensors_tells, full_quota])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside(tmp_path: Path, fail):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fill(partial: Path) -> None:
        partial.write_bytes(b"ne")
        fail()

    with pytest.raises(ResourceError, match=r"a\.bin: no space left"):
        write_file(path, fill)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), KeyboardInterrupt(), KeyError("x")])
def test_any_other_end_passes_and_leaves_nothing_beside(tmp_path: Path, error: BaseException):
    def fill(partial: Path) -> None:
        partial.write_bytes(b"ne")
        raise error

    with pytest.raises(type(error)) as passed:
        write_file(tmp_path / "a.bin", fill)
    assert passed.value is error
    assert not list(tmp_path.iterdir())


def test_json_bytes_and_hashes(tmp_path: Path):
    write_json(tmp_path / "a.json", {"k": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"k": [1, None]}
    write_bytes(tmp_path / "b", b"abc")
    assert sha256_of(tmp_path / "b").startswith("ba7816bf8f01cfea")


# Beginning


def test_a_new_run_keeps_its_configuration(run: RunDirectory):
    assert (run.path / "config.source.yaml").read_text() == "method: sign\n"
    assert (run.path / RESOLVED).read_text() == "method: sign\nseed: 0\n"
    assert read_manifest(run.path) == (CONFIG, Path("/configs/sign.yaml"))
    facts = json.loads((run.path / MANIFEST).read_text())
    assert {"command", "started", "machine"} <= set(facts)
    assert facts["machine"]["cores"] >= 1


def test_an_empty_folder_and_one_that_was_just_begun_will_do(tmp_path: Path):
    for name in (".lock", "config.source.yaml", f"{RESOLVED}.partial"):
        (tmp_path / name).write_text("half")
    run = create(tmp_path, written())
    run.release()
    assert read_manifest(tmp_path)[0] == CONFIG


def test_a_place_that_is_taken_is_refused(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("")
    with pytest.raises(OtherRunError, match=r"holds other things, such as thesis\.tex"):
        create(tmp_path / "folder", written())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        create(tmp_path / "file", written())
    with pytest.raises(ConfigError, match="no directory can be made here"):
        create(tmp_path / "file" / "run", written())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "thesis.tex"]


def test_a_run_that_exists_is_told_with_how_to_go_on(run: RunDirectory):
    with pytest.raises(RunLockedError):
        create(run.path, written())
    run.release()
    with pytest.raises(OtherRunError, match=f"liptt compress --resume {run.path}"):
        create(run.path, written())
    with pytest.raises(OtherRunError, match="seed: 0, 5"):
        create(run.path, written(seed=5))


def test_a_disk_that_is_full_at_the_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "there").mkdir()
    monkeypatch.setattr(os, "fsync", full)
    for place in ("new/er/run", "there"):
        with pytest.raises(ResourceError):
            create(tmp_path / place, written())
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["there"]


# Going on


def test_a_run_is_reopened_by_its_manifest(run: RunDirectory):
    run.release()
    (run.stage("binarize") / "block-000.safetensors.partial").write_text("torn")
    again = reopen(run.path)
    assert (again.resolved, again.origin) == (CONFIG, Path("/configs/sign.yaml"))
    assert not list(run.path.rglob("*.partial"))
    again.release()
    reopen(run.path, resolved={**CONFIG, "output": "elsewhere"}).release()


def test_another_configuration_is_refused_with_all_that_differs(run: RunDirectory):
    run.release()
    changed = {**CONFIG, "seed": 1, "load": {"skip": ["*"], "dtype": "auto"}}
    with pytest.raises(OtherRunError) as refused:
        reopen(run.path, resolved=changed)
    assert [fault.message for fault in refused.value.faults][1:3] == ['load.skip: [], ["*"]', "seed: 0, 1"]
    assert f"liptt compress --resume {run.path}" in str(refused.value)


def test_what_is_no_run_directory_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="has no manifest"):
        reopen(tmp_path)
    (tmp_path / MANIFEST).write_text('{"config": ')
    with pytest.raises(InputError, match="not what was written"):
        reopen(tmp_path)


def test_a_second_process_is_told_who_the_first_is(run: RunDirectory):
    with pytest.raises(RunLockedError, match=f"process {os.getpid()} on "):
        reopen(run.path)
    assert look_at(run.path).resolved == CONFIG
    run.release()
    reopen(run.path).release()


def test_differences_go_into_groups_and_leave_the_output_out():
    one = {"output": "a", "a": {"output": 1, "b": [1]}, "c": None}
    other = {"output": "b", "a": {"output": 2, "b": [1]}, "d": 1.5}
    assert differences(one, other) == ["a.output: 1, 2", "d: null, 1.5"]
    assert differences(one, one) == []


# Stages


def test_a_stage_is_whole_once_it_is_sealed(run: RunDirectory):
    assert run.stage("binarize").name == "03-binarize"
    assert not run.is_whole("binarize")
    run.seal("binarize", {"linears": 3})
    assert [name for name in STAGES if run.is_whole(name)] == ["binarize"]
    assert run.facts("binarize") == {"linears": 3}
    run.event("linear", error=0.5)
    lines = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [(line["event"], line.get("stage"), line.get("error")) for line in lines] == [
        ("stage whole", "binarize", None),
        ("linear", None, 0.5),
    ]


def test_discard_removes_what_the_run_made_and_nothing_else(tmp_path: Path):
    (tmp_path / "there").mkdir()
    for place in ("new/er/run", "there/run", "there"):
        run = create(tmp_path / place, written())
        run.stage("load")
        run.discard()
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["there"]
