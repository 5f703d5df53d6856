"""A full disk, by a limit on the size of files: nothing is left of a run at its start, and no torn file later."""

from pathlib import Path

import pytest

from end_to_end.forked_runs import Forks, listing
from liptt_cli.run_directory import STAGES

START = ("compress", "--config", "configs/small.yaml", "--output", "runs/first")
SIGN = """\
version: 1
method: sign
model: ../model
calibration: {corpus: text.txt, windows: 4, window_tokens: 16}
evaluate: {perplexity: [], lipschitz: false}
"""
FILLS_IN = {
    "binarize": ("clean-000.safetensors", 20_000, ("--set", "calibration.windows=16")),
    "finetune": ("checkpoint.pt", 60_000, ()),
    "export": ("model", 60_000, ("--config", "configs/sign.yaml")),
}


@pytest.mark.parametrize("limit_bytes", [1000, 9000], ids=["before the first stage", "in the first stage"])
def test_a_disk_that_is_full_at_once_leaves_nothing(place: Path, forks: Forks, limit_bytes: int) -> None:
    before = listing(place)
    windows = ("--set", "calibration.windows=160")
    ended = forks.run(["-q", *START, *windows], folder=place, limit_bytes=limit_bytes)
    assert ended.status == 4, ended.err
    assert ended.err.count("\n") == 1
    assert "no space left to write it" in ended.err
    assert listing(place) == before


@pytest.mark.parametrize("stage", FILLS_IN)
def test_a_disk_that_fills_later_leaves_a_run_that_can_be_resumed(place: Path, forks: Forks, stage: str) -> None:
    (place / "configs" / "sign.yaml").write_text(SIGN)
    file, limit_bytes, words = FILLS_IN[stage]
    start = [*START, *words]
    ended = forks.run(["-q", *start], folder=place, limit_bytes=limit_bytes)
    assert ended.status == 4, ended.err
    assert ended.err.count("\n") == 1
    assert f"{file}: no space left to write it" in ended.err
    assert not list(place.rglob("*.partial"))
    run = place / "runs" / "first"
    sealed = [path.parent.name[3:] for path in sorted(run.glob("*/stage.json"))]
    assert sealed == list(STAGES[: STAGES.index(stage)])
    resumed = forks.run(["-q", "compress", "--resume", run], folder=place)
    assert resumed.status == 0, resumed.err
