"""Stage 1: what is known of model and text, windows on disk, and refusals before anything costs time."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from liptt_cli.errors import ConfigError, CorpusError, IntegrityError, OtherRunError
from liptt_cli.run_directory import sha256_of
from liptt_cli.stages.load import refuse_other_model
from running import finish, make_job, reopened, short

Make = Callable[..., Path]


def test_it_tells_model_text_and_structure(tiny_llama: Path, tmp_path: Path):
    job = make_job(tiny_llama, "sign", *short("sign"), folder=tmp_path / "run")
    assert finish(job, until="load") is None
    facts = job.run.facts("load")
    assert facts["source"]["sha256"] == {"model.safetensors": sha256_of(tiny_llama / "model.safetensors")}
    assert (facts["source"]["name"], facts["source"]["revision"]) == (tiny_llama.name, None)
    assert (facts["dtype"], facts["corpus"]["tokens"]) == ("float32", 8 * 16)
    assert facts["corpus"]["name"].endswith("text.txt") and len(facts["corpus"]["sha256"]) == 64
    assert (len(job.structure.sites), job.structure.block_path) == (14, "model.layers")
    assert load_file(job.run.stage("load") / "windows.safetensors")["ids"].dtype == torch.int32
    assert job.windows.shape == (8, 16) and job.windows.dtype == torch.int64
    assert torch.equal(reopened(job).windows, job.windows)


def test_the_seed_draws_the_windows(tiny_llama: Path, tmp_path: Path):
    drawn = []
    for run, seed in (("one", 0), ("two", 0), ("three", 1)):
        job = make_job(tiny_llama, "sign", *short("sign"), f"seed={seed}", folder=tmp_path / run)
        finish(job, until="load")
        drawn.append(job.windows)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_text_is_sampled_from_the_model_itself(tiny_llama: Path, tmp_path: Path):
    job = make_job(tiny_llama, "sign", *short("sign", "calibration.corpus=self"), folder=tmp_path / "run")
    finish(job, until="load")
    assert job.windows.shape == (8, 16)
    assert (job.windows[:, 0] == 0).all() and len(job.windows.unique(dim=0)) == 8
    assert job.run.facts("load")["corpus"]["name"] == "self"


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        (
            "calibration.window_tokens=257",
            ConfigError,
            r"calibration\.window_tokens: 257 is more than the 256 positions",
        ),
        ("calibration.windows=9999", CorpusError, "windows of 16, but 9999"),
        ("calibration.corpus=absent.txt", CorpusError, r"absent\.txt: no such corpus"),
        ("load.skip=['*.q']", ConfigError, r"load\.skip: '\*\.q' matches none of the 14 linears"),
        ("evaluate={perplexity: [absent.txt], window_tokens: 32}", CorpusError, r"absent\.txt: no such corpus"),
        ("evaluate={perplexity: [stdlib], window_tokens: 300}", ConfigError, r"evaluate\.window_tokens: 300 is more"),
    ],
)
def test_what_cannot_work_is_refused_first(
    override: str, error: type[Exception], message: str, tiny_llama: Path, tmp_path: Path
):
    job = make_job(tiny_llama, "sign", *short("sign", override), folder=tmp_path / "run")
    with pytest.raises(error, match=message):
        finish(job)
    assert not job.run.is_whole("load")


def test_a_weight_that_is_no_number_is_refused_by_name(make_tiny_model: Make, tmp_path: Path):
    model = make_tiny_model("llama", tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    job = make_job(model, "sign", *short("sign"), folder=tmp_path / "run")
    with pytest.raises(IntegrityError, match=r"model\.layers\.1\.mlp\.up_proj\.weight' holds 1 NaN or Inf"):
        finish(job)


def test_much_that_stays_dense_is_warned_of(tiny_llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    job = make_job(
        tiny_llama, "sign", *short("sign", "load.include=['*_proj']", "load.skip=['*.mlp.*']"), folder=tmp_path / "r"
    )
    with caplog.at_level(logging.WARNING):
        finish(job, until="load")
    assert "of the weights of the blocks' matrices are compressed; left dense: " in caplog.text
    assert len(job.structure.sites) == 8


def test_a_run_does_not_go_on_with_other_weights(make_tiny_model: Make, tmp_path: Path):
    model = make_tiny_model("llama", tmp_path / "model")
    job = make_job(model, "sign", *short("sign"), folder=tmp_path / "run")
    finish(job, until="load")
    refuse_other_model(job)
    make_tiny_model("llama", model, seed=1)
    with pytest.raises(OtherRunError, match=r"is not the model that .*run began with"):
        finish(reopened(job))


def test_a_mix_of_corpora_has_its_shares(tiny_llama: Path, tmp_path: Path):
    mix = "calibration.corpus={stdlib: 0.25, self: 0.75}"
    job = make_job(tiny_llama, "sign", *short("sign", mix), folder=tmp_path / "run")
    finish(job, until="load")
    corpus = job.run.facts("load")["corpus"]
    assert corpus["name"] == "2 of stdlib + 6 of self"
    assert [(part["windows"], part["tokens"]) for part in corpus["parts"]] == [(2, 32), (6, 96)]
    assert job.windows.shape == (8, 16)
    alone = make_job(tiny_llama, "sign", *short("sign", "calibration.corpus=stdlib"), folder=tmp_path / "alone")
    finish(alone, until="load")
    assert alone.run.facts("load")["corpus"]["sha256"] == corpus["parts"][0]["sha256"] != corpus["sha256"]


def test_a_mix_that_is_not_whole_is_refused(tiny_llama: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"the shares add up to 0\.75, not to 1"):
        make_job(tiny_llama, "sign", "calibration.corpus={stdlib: 0.25, self: 0.5}", folder=tmp_path / "run")


def test_an_estimator_that_needs_float32_is_refused_before_anything_is_compressed(tiny_llama: Path, tmp_path: Path):
    term = "finetune.objectives=[{kind: lipschitz, weight: 1.0, estimator: directional}]"
    job = make_job(
        tiny_llama, "sign", *short("sign", term, "finetune.steps=1", "load.dtype=bfloat16"), folder=tmp_path / "run"
    )
    with pytest.raises(ConfigError, match=r"finetune\.objectives.*load\.dtype: float32"):
        finish(job, until="load")


def test_windows_are_as_long_as_the_model_s_positions_if_nothing_is_said(tiny_llama: Path, tmp_path: Path):
    job, asked = (
        make_job(tiny_llama, "sign", *words, folder=tmp_path / name)
        for name, words in (("run", ()), ("asked", ("calibration.window_tokens=32",)))
    )
    assert {job.window_tokens("calibration"), job.window_tokens("evaluate")} == {256}
    assert (asked.window_tokens("calibration"), asked.window_tokens("evaluate")) == (32, 256)
    job.run.release()
    asked.run.release()
