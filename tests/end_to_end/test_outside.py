"""A really pretrained model from outside of the repository, end to end: compressed, reloaded, the same logits."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from liptt_cli.stages.assemble import compressed_model
from running import SHORT, finished

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
    stories = shared_data / "data" / "tinystories" / "sample.txt.gz"
    jobs = []
    for corpus in ("self", str(stories)):
        words = [word for word in SHORT["liptt-onestep"] if not word.startswith("bits_per_weight")]
        words += ["bits_per_weight=1.5", "calibration.windows=16", "calibration.window_tokens=64"]
        words += [f"calibration.corpus={corpus}", f"evaluate.perplexity=['{stories}']", "evaluate.window_tokens=512"]
        jobs.append(finished(shared_data / "models" / "stories260K" / "hf", "liptt-onestep", *words))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(str(job.run.path / "model") for job in jobs)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    for job, found in zip(jobs, ended.stdout.split(), strict=True):
        with torch.no_grad():
            logits = compressed_model(job, job.result_files())(input_ids=IDS).logits
        assert found == hashlib.sha256(logits.numpy().tobytes()).hexdigest()
        report = json.loads((job.run.path / "report.json").read_text())
        assert report["price"]["bits_per_weight"] <= 1.5
        nats, _ = report["evaluation"]["differences"]
        assert 1.0 < nats["reference"] < 1.6
        assert 0 < nats["difference"] < 9
