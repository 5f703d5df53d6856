"""Stage 5: both models on the same text, gains before and after, and everything that pairs two runs."""

import json
from pathlib import Path

import pytest

from liptt_cli.run_directory import STAGES
from liptt_cli.stages.evaluate import request_of
from running import TEXT, evaluated, finished, short


def test_nothing_asked_for_is_nothing_done(tiny_llama: Path):
    facts = finished(tiny_llama, "sign", *short("sign")).run.facts("evaluate")
    assert set(facts) == {"seconds", "peak_bytes"}


def test_both_models_are_measured_on_the_same_text(tiny_llama: Path):
    job = evaluated(tiny_llama, "liptt-onestep")
    facts = job.run.facts("evaluate")
    assert set(facts) == {"dense", "compressed", "differences", "lipschitz", "calibrated_on", "seconds", "peak_bytes"}
    (corpus,) = facts["dense"]["perplexity"]
    assert corpus.endswith("text.txt") and Path(corpus).read_text() == TEXT
    assert facts["calibrated_on"] == [corpus], "the report has to say so"
    dense, compressed = (facts[which]["perplexity"][corpus] for which in ("dense", "compressed"))
    assert dense["nats"] != compressed["nats"]
    assert facts["dense"]["corpora"] == facts["compressed"]["corpora"]
    nats, perplexity = facts["differences"]
    assert (nats["name"], perplexity["name"]) == (f"{corpus}.nats", f"{corpus}.perplexity")
    assert nats["difference"] == pytest.approx(compressed["nats"] - dense["nats"])
    assert nats["standard_error"] > 0
    assert "window_nats" not in dense


def test_every_window_s_nats_are_kept_for_pairing(tiny_llama: Path):
    job = evaluated(tiny_llama, "liptt-onestep")
    scores = json.loads((job.run.stage("evaluate") / "scores.json").read_text())
    (dense,), (compressed,) = (scores[which]["perplexity"].values() for which in ("dense", "compressed"))
    assert len(dense["window_nats"]) == len(compressed["window_nats"]) > 20


def test_the_request_is_the_configuration_s(tiny_llama: Path):
    request = request_of(evaluated(tiny_llama, "sign"))
    assert (request.window_tokens, request.stride, request.tasks) == (32, None, ())
    assert request.settings.seed == 0
    assert STAGES[4] == "evaluate"
