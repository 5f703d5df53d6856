"""A run that was broken off anywhere ends with the bytes of one that was not."""

import hashlib
import json
import random
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from end_to_end.forked_runs import Ended, Forks, Strike
from liptt_cli.run_directory import STAGES

START = ("-q", "compress", "--config", "configs/small.yaml", "--output", "run")
RESUME = ("-q", "compress", "--resume", "run")
KILLED = -signal.SIGKILL


def packed(place: Path) -> str:
    """Return the sha256 of the packed model's weights."""
    files = sorted((place / "run" / "model").glob("*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest() if files else "none"


def go_on(forks: Forks, place: Path, strike: Strike | None = None) -> Ended:
    """Resume the run, or start it again if it was killed before there was one."""
    begun = (place / "run" / "manifest.json").exists()
    return forks.run(RESUME if begun else START, folder=place, strike=strike)


def events(place: Path, event: str) -> list[dict[str, object]]:
    lines = (place / "run" / "events.jsonl").read_text().splitlines()
    return [found for found in map(json.loads, lines) if found["event"] == event]


@pytest.fixture(scope="module")
def whole(
    forks: Forks, make_place: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Ended]:
    """The packed bytes and the costs of a run that is left alone."""
    place = make_place(tmp_path_factory.mktemp("alone"))
    ended = forks.run(START, folder=place)
    assert ended.status == 0, ended.err
    return packed(place), ended


def test_killed_before_it_has_done_anything(forks: Forks, place: Path) -> None:
    assert go_on(forks, place, Strike(seconds=0.0)).status == KILLED
    assert not (place / "run" / "manifest.json").exists()


def test_killed_at_twenty_seeded_instants(forks: Forks, place: Path, whole: tuple[str, Ended]) -> None:
    """A process that is not killed in time ends its run, which is compared, and another run begins."""
    digest, alone = whole
    instants = random.Random(0)
    kills, runs = 0, 0
    while kills < 20:
        ended = go_on(forks, place, Strike(seconds=instants.uniform(0, alone.seconds)))
        assert ended.status in (KILLED, 0), ended.err
        kills += ended.status == KILLED
        if ended.status == 0 or kills == 20:
            assert go_on(forks, place).status == 0
            assert packed(place) == digest
            shutil.rmtree(place / "run")
            runs += 1
    assert runs >= 2


def test_killed_over_and_over_between_writing_a_file_and_naming_it(
    forks: Forks, place: Path, whole: tuple[str, Ended]
) -> None:
    digest, alone = whole
    writes = random.Random(1)
    statuses = []
    while 0 not in statuses and len(statuses) < 60:
        ended = go_on(forks, place, Strike(synced=writes.randint(1, alone.syncs // 4)))
        assert ended.status in (KILLED, 0), ended.err
        statuses.append(ended.status)
    assert statuses[-1] == 0
    assert len(statuses) > 4
    assert packed(place) == digest
    assert not list((place / "run").rglob("*.partial"))


def test_killed_behind_each_stage_none_is_done_twice(forks: Forks, place: Path, whole: tuple[str, Ended]) -> None:
    digest, _ = whole
    for stage in STAGES:
        assert go_on(forks, place, Strike(sealed=stage)).status == KILLED
    assert go_on(forks, place).status == 0
    assert packed(place) == digest
    assert [found["stage"] for found in events(place, "stage whole")] == list(STAGES)


def test_until_each_stage_in_turn(forks: Forks, place: Path, whole: tuple[str, Ended]) -> None:
    digest, _ = whole
    for number, stage in enumerate(STAGES, start=1):
        ended = forks.run([*(RESUME if number > 1 else START), "--until", stage], folder=place)
        assert ended.status == 0, ended.err
        assert [found["stage"] for found in events(place, "stage whole")] == list(STAGES[:number])
        if stage != STAGES[-1]:
            assert "Go on: liptt compress --resume run" in ended.out
    assert packed(place) == digest


def test_the_walk_goes_on_with_the_block_that_was_broken_off(
    forks: Forks, place: Path, whole: tuple[str, Ended]
) -> None:
    digest, _ = whole
    assert go_on(forks, place, Strike(written="block-001.safetensors")).status == KILLED
    before = {found["linear"] for found in events(place, "linear")}
    assert go_on(forks, place).status == 0
    names = [str(found["linear"]) for found in events(place, "linear")]
    assert len(before) == 14
    assert sorted(names) == sorted([*before, *(name for name in before if ".1." in str(name))])
    assert packed(place) == digest


def test_the_fine_tune_goes_on_with_its_checkpoint(forks: Forks, place: Path, whole: tuple[str, Ended]) -> None:
    digest, _ = whole
    assert go_on(forks, place, Strike(written="outside.safetensors")).status == KILLED
    resumed = forks.run(RESUME[1:], folder=place)
    assert resumed.status == 0, resumed.err
    assert "binarize" not in resumed.err
    assert "step" not in resumed.err
    assert packed(place) == digest


@pytest.mark.parametrize("strike", [{"sealed": "decompose"}, {"written": "checkpoint.pt"}], ids=str)
def test_ctrl_c_tells_the_command_that_goes_on(
    forks: Forks, place: Path, whole: tuple[str, Ended], strike: dict[str, str]
) -> None:
    digest, _ = whole
    stopped = forks.run(START, folder=place, strike=Strike(signal=signal.SIGINT, **strike))
    assert stopped.status == 130
    assert stopped.out == ""
    told, _, command = stopped.err.partition("Go on: ")
    assert told.startswith("stopped; nothing is lost")
    assert command.strip() == "liptt compress --resume run"
    assert not list(place.rglob("*.partial"))
    assert forks.run(shlex.split(command)[1:], folder=place).status == 0
    assert packed(place) == digest


def test_a_run_goes_on_from_another_folder(forks: Forks, place: Path, tmp_path: Path) -> None:
    start = [*START, "--set", "evaluate={perplexity: [text.txt], window_tokens: 64, windows: 2, lipschitz: false}"]
    assert forks.run(start, folder=place, strike=Strike(sealed="load")).status == KILLED
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ended = forks.run(["-q", "compress", "--resume", place / "run", "--json"], folder=elsewhere)
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)["evaluation"]["differences"]
    assert {Path(each["name"]).stem for each in found} == {"text.txt"}
    assert not list(elsewhere.iterdir())


def test_a_finished_run_is_left_as_it_is_and_told_again(forks: Forks, place: Path) -> None:
    first = forks.run(START, folder=place)
    kept = {path: path.stat().st_mtime_ns for path in (place / "run").rglob("*") if path.parent != place / "run"}
    told = events(place, "stage whole")
    again = go_on(forks, place)
    assert again.status == 0
    assert again.out == first.out
    assert again.out.startswith("# small on model: 3.0000 bits per weight")
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert events(place, "stage whole") == told


def test_another_configuration_is_refused_with_the_fields(forks: Forks, place: Path) -> None:
    assert forks.run([*START, "--until", "load"], folder=place).status == 0
    changed = ("--config", "configs/small.yaml", "--set", "finetune.steps=7", "--set", "seed=3")
    refused = forks.run([*RESUME, *changed], folder=place)
    assert refused.status == 2
    assert "finetune.steps: 5, 7" in refused.err
    assert "seed: 0, 3" in refused.err
    assert "calibration" not in refused.err
    same = forks.run([*RESUME, "--config", "configs/small.yaml", "--until", "decompose"], folder=place)
    assert same.status == 0, same.err


def test_another_model_in_the_same_place_is_refused(forks: Forks, place: Path) -> None:
    assert forks.run([*START, "--until", "decompose"], folder=place).status == 0
    weights = place / "model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] = torch.ones_like(tensors["model.norm.weight"])
    save_file(tensors, weights, metadata={"format": "pt"})
    refused = go_on(forks, place)
    assert refused.status == 2
    assert "is not the model that run began with" in refused.err
    assert "sha256.model.safetensors" in refused.err
