"""Trainings inside the walk: the dense rest takes up errors, linears are tuned one by one, weights may be Fisher's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from liptt_cli.calibration.walk import Visit
from liptt_cli.errors import ConfigError
from liptt_cli.formats.base import Encoded
from liptt_cli.layers.trainable import TrainableLinear
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages import binarize, block_tuning
from liptt_cli.stages.job import GRADIENTS, Job
from running import finish, make_job, short

ROLES = ["query", "value", "output", "key", "up", "gate", "down"]
LEAVES = ["q_proj", "v_proj", "o_proj", "k_proj", "up_proj", "gate_proj", "down_proj"]
ORDER = f"binarize.order=[{', '.join(ROLES)}]"
SQUARE = "objectives: [{kind: hidden_square}]"
REST = f"binarize.rest={{steps: 12, batch_windows: 4, learning_rate: {{weights: 3.0e-3}}, {SQUARE}}}"
LINEAR = "binarize.codes.when=linear"
BRIEF = (
    "calibration.windows=4",
    "binarize.solver.iterations=2",
    "finetune.steps=0",
    "finetune.objectives=[]",
    "finetune.latent={kind: dense}",
)


def run(model: Path, folder: Path, *overrides: str, until: str = "binarize") -> Job:
    job = make_job(model, "liptt-ptq", *short("liptt-ptq", *BRIEF, *overrides), folder=folder)
    finish(job, until=until)
    return job


def seen_outputs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect each block's relative squared error at its end."""
    found: list[float] = []
    own = binarize.write_block

    def spy(path: Path, result: Any) -> None:
        visit = visits[-1]
        off = visit.run.whole(visit.block, visit.prefix).detach() - visit.target
        found.append(float(off.square().sum() / visit.target.square().sum()))
        own(path, result)

    visits: list[Visit] = []
    make = block_tuning.BlockTuning.__post_init__

    def note(block: block_tuning.BlockTuning) -> None:
        visits.append(block.visit)
        make(block)

    monkeypatch.setattr(block_tuning.BlockTuning, "__post_init__", note)
    monkeypatch.setattr(binarize, "write_block", spy)
    return found


def test_the_rest_takes_up_error(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    errors = seen_outputs(monkeypatch)
    run(tiny_llama, tmp_path / "plain", ORDER, "binarize.codes.steps=0")
    job = run(tiny_llama, tmp_path / "tuned", ORDER, "binarize.codes.steps=0", REST)
    assert all(tuned < plain for plain, tuned in zip(errors[:2], errors[2:], strict=True))
    records = job.run.facts("binarize")["tuning"]
    before = [(each["block"], each["before"][0].rpartition(".")[2]) for each in records]
    assert before == [(0, leaf) for leaf in LEAVES[1:]] + [(1, leaf) for leaf in LEAVES]
    assert all(each["last"] < each["first"] and each["steps"] == 12 for each in records[1:])
    weights = [facts["weight"] for facts in job.run.facts("binarize")["linears"].values()]
    assert weights == ["dense"] + 13 * ["tuned"]


def test_the_rest_is_trained_before_the_turns_that_are_named(tiny_llama: Path, tmp_path: Path):
    words = (
        ORDER,
        "binarize.codes.steps=0",
        REST,
        "binarize.rest.before=[query, key]",
        "binarize.rest.train=[weights, norms]",
    )
    job = run(tiny_llama, tmp_path / "run", *words)
    records = job.run.facts("binarize")["tuning"]
    before = [(each["block"], each["before"][0].rpartition(".")[2]) for each in records]
    assert before == [(0, "k_proj"), (1, "q_proj"), (1, "k_proj")]
    changed = [name for name in Overlay.read(job.block_files("binarize")).tensors if "norm" in name]
    assert len(changed) == 4


@pytest.mark.parametrize("finished", [False, True])
def test_linears_are_tuned_one_by_one_and_their_codes_are_frozen(
    finished: bool, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What flows on is what is written: nothing moves behind the last freeze."""
    moving: list[tuple[set[str], ...]] = []
    there: list[dict[str, Encoded]] = []
    own, write = block_tuning.tune, binarize.write_block

    def spy(lesson: Any, *, course: Any) -> Any:
        history = own(lesson, course=course)
        groups = {name: module.groups() for name, module in lesson.module.named_modules() if hasattr(module, "groups")}
        moving.append(tuple({n.rpartition(".")[2] for n, g in groups.items() if g[key]} for key in ("codes", "scales")))
        last[:] = [lesson.module]
        return history

    def note(path: Path, result: Any) -> None:
        there.append({n: m.freeze() for n, m in last[0].named_modules() if isinstance(m, TrainableLinear)})
        assert all(torch.equal(v.dense(), result.values[n].dense()) for n, v in named(there, path).items())
        write(path, result)

    last: list[Any] = []
    monkeypatch.setattr(block_tuning, "tune", spy)
    monkeypatch.setattr(binarize, "write_block", note)
    words = (ORDER, LINEAR, "binarize.codes.steps=2", f"binarize.codes.finished_scales={str(finished).lower()}")
    job = run(tiny_llama, tmp_path / "run", *words)
    wanted = [({leaf}, set(LEAVES[: number + 1]) if finished else {leaf}) for number, leaf in enumerate(LEAVES)]
    assert moving == 2 * wanted
    assert [each["trained"] for each in job.run.facts("binarize")["tuning"]] == ["codes"] * 14
    assert [len(each) for each in there] == [7, 7]


def named(there: list[dict[str, Encoded]], path: Path) -> dict[str, Encoded]:
    """Return the last block's values by their full names."""
    return {f"model.layers.{len(there) - 1}.{name}": value for name, value in there[-1].items()}


def test_fisher_weights_that_are_all_equal_change_nothing(tiny_llama: Path, tmp_path: Path):
    words = ("binarize.codes.steps=3", "binarize.codes.objectives=[{kind: hidden_square}]")
    plain = run(tiny_llama, tmp_path / "plain", *words)
    fisher = "binarize.codes.objectives=[{kind: hidden_square, weights: fisher}]"
    job = make_job(tiny_llama, "liptt-ptq", *short("liptt-ptq", *BRIEF, words[0], fisher), folder=tmp_path / "run")
    squares = {site.name: torch.full((site.shape[0],), 0.25) for site in plain.structure.sites}
    folder = job.run.stage("decompose")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(squares, folder / GRADIENTS)
    finish(job, until="binarize")
    one, other = (each.run.facts("binarize")["tuning"] for each in (plain, job))
    assert one == other


def test_an_order_that_does_not_fit_is_refused_before_anything_is_compressed(tiny_llama: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r'binarize\.order: model\.layers\.0\.mlp\.gate_proj has the role "gate"'):
        run(tiny_llama, tmp_path / "run", "binarize.order=[query, key, value, output, up, down]", until="load")
