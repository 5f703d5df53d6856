"""Side channels of a chain, each a switch: they pack, reload with equal logits, train, and cost what the plan says."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from liptt_cli.packing.account import account, describe
from liptt_cli.packing.overlay import Overlay
from liptt_cli.planning.sites import read_headers
from liptt_cli.stages.assemble import compressed_model
from liptt_cli.stages.job import Job
from running import finished, short

SIGNS = "codec: {kind: binary, scale: [axes]}"
PATH = f"{{factor: {{kind: tensor_train, start: svd}}, {SIGNS}, solver: {{kind: procrustes, iterations: 3}}}}"
COLUMNS = "{codec: {kind: sparse, mask: {kind: top_columns, share: 0.03}}}"
SWITCHES = {
    "dual svid": (
        "decompose.factor.start=svd",
        "binarize.solver={kind: direct}",
        "binarize.metric.cols=none",
        f"binarize.residual=[{{factor: {{kind: tensor_train, start: svd}}, {SIGNS}}}]",
    ),
    "magnitudes of rank two, whole columns": (
        "binarize.codec={kind: binary, scale: [axes], rank: 2}",
        f"binarize.residual=[{COLUMNS}]",
        "finetune.train=[codes, scales, norms, weights]",
        "binarize.scale_repair=true",
    ),
    "sparse first, then two paths": (
        "decompose.factor={kind: identity}",
        "binarize.codec={kind: sparse, mask: {kind: top_share, share: 0.03}}",
        "binarize.solver={kind: direct}",
        f"binarize.residual=[{PATH}, {PATH.replace('3}', '2}')}]",
        "binarize.rounds=2",
    ),
}


@pytest.fixture(params=SWITCHES)
def job(request: pytest.FixtureRequest, tiny_llama: Path) -> Job:
    return finished(
        tiny_llama, "liptt-onestep", *short("liptt-onestep", "bits_per_weight=6.0", *SWITCHES[request.param])
    )


def test_the_file_holds_what_was_planned_and_computes_what_was_trained(job: Job) -> None:
    model = job.run.path / "model"
    headers = read_headers(model)
    blobs = {name.removesuffix(".weight"): shape[0] for name, (shape, dtype) in headers.items() if dtype == "U8"}
    totals = job.run.facts("export")["manifest"]["totals"]
    assert totals["payload_bytes"] == sum(blobs.values()) == job.run.facts("decompose")["payload_bytes"]
    assert totals["bits_per_weight"] == pytest.approx(8 * sum(blobs.values()) / totals["weights"], abs=1e-6)
    overlay = Overlay.of_packed(model)
    assert sum(account(model, overlay).values()) == totals["file_bytes"]
    assert all(" + " in describe(form) for form in overlay.forms.values())
    ids = torch.arange(24).reshape(2, 12)
    packed = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(packed(ids).logits, compressed_model(job, job.result_files())(ids).logits)
