"""Stage 3: a file a block, statistics shared by a group, tuning, and a resumed stage with the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from liptt_cli.calibration.collect import seen_by
from liptt_cli.calibration.streams import Streams
from liptt_cli.errors import ShapeError
from liptt_cli.layers.trainable import TrainableLinear
from liptt_cli.packing.block_file import read_sources
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages import binarize
from liptt_cli.stages.job import Job
from running import finish, finished, make_job, reopened, short

GROUPS = ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"]


class Killed(Exception):
    """Stands for a kill."""


def binarized(model: Path, method: str, *overrides: str, folder: Path) -> Job:
    job = make_job(model, method, *overrides, folder=folder)
    finish(job, until="binarize")
    return job


def test_every_linear_has_a_blob_of_its_form_and_its_facts(tiny_llama: Path):
    job = finished(tiny_llama, "liptt-ptq", *short("liptt-ptq"))
    overlay = Overlay.read(job.block_files("binarize"))
    assert dict(overlay.forms) == job.forms
    facts = job.run.facts("binarize")
    assert list(facts["linears"]) == [site.name for site in job.structure.sites]
    for name, found in facts["linears"].items():
        assert set(found) == {"error", "plain_error", "weight", "bits_per_weight", "ranks", "seconds"}
        assert 0 < found["error"] < 1.5 and found["plain_error"] > 0
        assert found["ranks"] == list(job.forms[name].ranks)
    wanted = {"block", "trained", "linears", "steps", "first", "last", "flip_share"}
    assert [set(each) for each in facts["tuning"]] == [wanted] * 2
    assert not list((job.run.stage("binarize") / "streams").iterdir())
    events = [json.loads(line) for line in (job.run.path / "events.jsonl").read_text().splitlines()]
    assert [event["linear"] for event in events if event["event"] == "linear"] == list(facts["linears"])


@pytest.mark.parametrize("inputs", ["prefix", "clean"])
def test_a_group_shares_what_it_sees(inputs: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On `clean` inputs the block is dense as long as it is looked at; on `prefix` it is as it is now."""
    asked: list[tuple[str, int]] = []
    hidden_of: list[Any] = []

    def spy(linear: Any, block: Any, hidden: Any, *, run: Any, look: Any) -> Any:
        (name,) = [name for name, module in block.named_modules() if module is linear]
        asked.append((name, sum(isinstance(module, TrainableLinear) for module in block.modules())))
        hidden_of.append(hidden)
        return seen_by(linear, block, hidden, run=run, look=look)

    monkeypatch.setattr("liptt_cli.stages.cost.seen_by", spy)
    words = short("liptt-ptq", f"binarize.inputs={inputs}", "binarize.codes.steps=0", "binarize.solver.iterations=1")
    binarized(tiny_llama, "liptt-ptq", *words, folder=tmp_path / "run")
    done = [0, 0, 0, 0] if inputs == "clean" else [0, 3, 4, 6]
    assert asked == 2 * list(zip(GROUPS, done, strict=True))
    assert torch.equal(hidden_of[0], hidden_of[3]) and not torch.equal(hidden_of[0], hidden_of[4])


def test_a_recipe_that_needs_no_statistics_runs_no_forward(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("liptt_cli.calibration.walk._visit", None)
    job = binarized(tiny_llama, "sign", *short("sign"), folder=tmp_path / "run")
    assert len(job.block_files("binarize")) == 2


def test_sources_are_kept_only_for_a_fine_tune_that_starts_from_them(tiny_llama: Path):
    kept = finished(tiny_llama, "liptt-onestep", *short("liptt-onestep"))
    sources = read_sources(kept.block_files("binarize"))
    assert set(sources) == set(kept.forms)
    overlay = Overlay.read(kept.block_files("binarize"))
    for name, cores in sources.items():
        codes = overlay.value(name).cores
        assert [source.numel() for source in cores] == [core.codes.numel() for core in codes]
    without = finished(tiny_llama, "liptt-ptq", *short("liptt-ptq"))
    assert read_sources(without.block_files("binarize")) == {}


def test_tuned_norms_of_a_block_are_in_its_file(tiny_llama: Path):
    job = finished(tiny_llama, "liptt-ptq", *short("liptt-ptq"))
    changed = [name for name in Overlay.read(job.block_files("binarize")).tensors if "norm" in name]
    assert sorted(changed) == [
        f"model.layers.{block}.{norm}_layernorm.weight" for block in (0, 1) for norm in ("input", "post_attention")
    ]


@pytest.mark.parametrize("estimator", ["directional", "error_direction"])
def test_a_lipschitz_term_that_runs_blocks_pulls_on_a_block_alone(estimator: str, tiny_llama: Path, tmp_path: Path):
    term = f"{{kind: lipschitz, weight: 1.0, estimator: {estimator}}}"
    words = short("liptt-ptq", "binarize.codes.steps=20", f"binarize.codes.objectives=[{term}]")
    job = binarized(tiny_llama, "liptt-ptq", *words, "binarize.codes.windows=4", folder=tmp_path / "run")
    first, second = job.run.facts("binarize")["tuning"]
    assert second["first"] > 0 and second["flip_share"] > 0, "gradients reach the codes"
    assert first["first"] > 0 if estimator == "directional" else first["first"] == 0


def test_a_block_without_compressed_linears_is_left_alone(tiny_llama: Path, tmp_path: Path):
    words = short("liptt-ptq", "load.skip=['*.0.*']", "binarize.codes.train=[codes, scales]", "bits_per_weight=2")
    job = binarized(tiny_llama, "liptt-ptq", *words, folder=tmp_path / "run")
    first, second = (Overlay.read([path]) for path in job.block_files("binarize"))
    assert (len(first.tensors), len(second.tensors)) == (0, 7)
    assert [each["block"] for each in job.run.facts("binarize")["tuning"]] == [1]


@pytest.mark.parametrize(
    "instant",
    [(binarize, "write_block", 2), (Streams, "write", 3), (Streams, "drop", 1), (binarize, "_facts", 1)],
    ids=["before a file", "behind a file", "before the streams go", "at the end"],
)
def test_a_stage_that_was_broken_off_ends_with_the_same_bytes(
    instant: tuple[Any, str, int], tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An instant is the n-th call of a function: there the stage dies."""
    owner, name, call = instant
    words = short("liptt-ptq", "binarize.solver.iterations=1", "binarize.codes.steps=1", "finetune.steps=0")
    wanted = finished(tiny_llama, "liptt-ptq", *words)
    job = make_job(tiny_llama, "liptt-ptq", *words, folder=tmp_path / "run")
    own, calls = getattr(owner, name), []

    def dying(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return own(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Killed):
            finish(job)
    assert not job.run.is_whole("binarize")
    finish(reopened(job), until="binarize")
    for one, other in zip(wanted.block_files("binarize"), job.block_files("binarize"), strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert len(job.run.facts("binarize")["tuning"]) == 2


def test_an_error_in_a_linear_names_it(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise ShapeError("31 does not factor")

    monkeypatch.setattr(binarize, "compress", refuse)
    with pytest.raises(ShapeError, match=r"^model\.layers\.0\.self_attn\.q_proj: 31 does not factor"):
        binarized(tiny_llama, "sign", *short("sign"), folder=tmp_path / "run")
