"""A really pretrained model from outside of the repository, end to end: compressed, reloaded, the same logits."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from liptt_cli.metrics.perplexity import measure_perplexity
from liptt_cli.stages.assemble import compressed_model, dense_model
from running import finished, short

ROOT = Path(__file__).parents[2]
IDS = torch.randint(3, 512, (2, 48), generator=torch.Generator().manual_seed(7))
PROGRAM = """
import hashlib, sys
import liptt_cli
import torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
ids = torch.randint(3, 512, (2, 48), generator=torch.Generator().manual_seed(7))
for directory in sys.argv[1:]:
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(input_ids=ids).logits
    print(hashlib.sha256(logits.numpy().tobytes()).hexdigest())
"""


@pytest.mark.outside
def test_stories_compress_and_come_back_in_a_fresh_process(shared_data: Path):
    """Calibrated on text sampled from the model itself and on the stories it was trained on."""
    stories, jobs = shared_data / "data" / "tinystories" / "sample.txt.gz", []
    for corpus in ("self", str(stories)):
        words = [*short("liptt-onestep"), "calibration.window_tokens=64", f"calibration.corpus={corpus}"]
        jobs.append(finished(shared_data / "models" / "stories260K" / "hf", "liptt-onestep", *words))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(str(job.run.path / "model") for job in jobs)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    text = jobs[1].windows
    for job, found in zip(jobs, ended.stdout.split(), strict=True):
        model = compressed_model(job, job.result_files())
        with torch.no_grad():
            assert found == hashlib.sha256(model(input_ids=IDS).logits.numpy().tobytes()).hexdigest()
        report = json.loads((job.run.path / "report.json").read_text())
        assert (report["price"]["weights"], report["corpus"]["name"]) == (226_560, job.config.calibration.corpus)
        assert 1.3 < report["price"]["bits_per_weight"] <= 1.5
        dense, compressed = (measure_perplexity(each, text, stride=None).nats for each in (dense_model(job), model))
        assert 0.8 < dense < 2.0
        assert dense < compressed < 8
