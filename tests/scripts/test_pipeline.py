"""scripts/pipeline.sh end to end on a tiny model: one JSON document a step, and a gate that fails the job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """\
version: 1
method: sign
model: {model}
calibration: {{windows: 4, window_tokens: 16}}
evaluate: {{perplexity: [], lipschitz: false}}
"""


def pipeline(folder, gate):
    """Run the script in a folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "LIPTT": f"{sys.executable} -m liptt_cli"}
    command = ["bash", ROOT / "scripts" / "pipeline.sh", "run.yaml", "out", gate]
    return subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)


def documents(text):
    """Split a stream of JSON documents."""
    decoder, found = json.JSONDecoder(), []
    while text.strip():
        document, end = decoder.raw_decode(text.lstrip())
        found.append(document)
        text = text.lstrip()[end:]
    return found


@pytest.fixture
def folder(tiny_llama, tmp_path):
    (tmp_path / "run.yaml").write_text(CONFIG.format(model=tiny_llama))
    return tmp_path


def test_the_pipeline_ends_well_and_its_gate_can_fail(folder):
    done = pipeline(folder, "nats>+1000")
    assert done.returncode == 0, done.stderr
    plan, evaluation, export = documents(done.stdout)
    assert plan["totals"]["payload_bytes"] > 0
    assert evaluation["differences"] and export
    assert (folder / "out" / "dense" / "config.json").exists()
    again = pipeline(folder, "nats<+1000")
    assert again.returncode == 6, again.stderr
    assert "nats" in again.stderr
