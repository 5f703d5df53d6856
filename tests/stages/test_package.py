"""Stage 6 in a run: the packed model verifies, all targets agree, and the origin says where they come from."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import torch

from liptt_cli.exports.gguf_blocks import decode_q1_0
from liptt_cli.kernels.dispatch import exact
from liptt_cli.models.hub import load_model, locate
from liptt_cli.packing.artifact import verify_files
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import read_section
from liptt_cli.stages.assemble import compressed_model
from liptt_cli.stages.fingerprint import verify_logits
from running import finish, finished, make_job, reopened, short

IDS = torch.arange(30).reshape(2, 15)


def test_the_packed_model_is_what_the_manifest_says(tiny_llama: Path):
    job = finished(tiny_llama, "liptt-onestep", *short("liptt-onestep"))
    manifest, facts = verify_files(job.run.path / "model"), job.run.facts("export")["manifest"]
    assert set(facts) == {"files", "totals", "fingerprint"}
    assert facts["totals"]["payload_bytes"] == manifest.totals.payload_bytes
    assert facts["fingerprint"] == json.loads(json.dumps(manifest.fingerprint))
    assert verify_logits(locate(str(job.run.path)), facts["fingerprint"]) == 0.0
    assert (manifest.origin.method, manifest.origin.model) == ("liptt-onestep", tiny_llama.name)
    assert len(manifest.origin.recipe_sha256) == 64
    assert read_section(job.run.path / "model")["recipe_sha256"] == manifest.origin.recipe_sha256


def test_the_recipe_s_hash_tells_runs_apart(tiny_llama: Path):
    one, other = (finished(tiny_llama, method, *short(method)) for method in ("sign", "liptt-onestep"))
    hashes = {read_section(job.run.path / "model")["recipe_sha256"] for job in (one, other)}
    assert len(hashes) == 2


def test_a_plain_model_needs_no_plug_in_and_agrees(tiny_llama: Path, tmp_path: Path):
    job = make_job(tiny_llama, "sign", *short("sign", "export.to=[liptt, hf]"), folder=tmp_path / "run")
    finish(job)
    facts = job.run.facts("export")["elsewhere"]["hf"]["logits"]
    assert 0 <= facts["largest_difference"] <= facts["allowed_difference"]
    assert "quantization_config" not in json.loads((job.run.path / "model-hf" / "config.json").read_text())
    plain = load_model(locate(str(job.run.path / "model-hf")), dtype=torch.float32)
    packed = compressed_model(job, job.result_files())
    with torch.no_grad(), exact():
        difference = (plain(input_ids=IDS).logits - packed(input_ids=IDS).logits).abs().max()
    assert difference <= facts["allowed_difference"]


def test_a_run_writes_all_its_targets_exactly(make_tiny_model: Callable[..., Path], tmp_path: Path):
    """From a recipe to Q1_0: signs with a scale for each 128 columns, compressed, exported, and read back equal."""
    dense = make_tiny_model("llama", tmp_path / "dense", hidden_size=256, intermediate_size=384)
    words = short("sign", "binarize.codec.scale=[group]", "export.to=[gguf, compressed-tensors]")
    job = make_job(dense, "sign", *words, folder=tmp_path / "run")
    finish(job)
    told = job.run.facts("export")["elsewhere"]
    assert {name: list(facts["kinds"]) for name, facts in told.items()} == {
        "gguf": ["exact (Q1_0)"],
        "compressed-tensors": ["exact (2-bit/128)"],
    }
    assert {row["largest_difference"] for row in told["gguf"]["linears"].values()} == {0.0}
    assert told["compressed-tensors"]["logits"]["largest_difference"] < 1e-4
    reader = gguf.GGUFReader(job.run.path / "model-gguf" / "model.gguf")
    data = next(tensor.data for tensor in reader.tensors if tensor.name == "blk.1.ffn_down.weight")
    packed = Overlay.of_packed(job.run.path / "model").value("model.layers.1.mlp.down_proj")
    assert torch.equal(torch.from_numpy(decode_q1_0(data)).float(), packed.dense())


def test_an_export_that_did_not_finish_is_made_again(tiny_llama: Path, tmp_path: Path):
    job = make_job(tiny_llama, "sign", *short("sign"), folder=tmp_path / "run")
    finish(job)
    first = {path.name: path.read_bytes() for path in (job.run.path / "model").iterdir()}
    (job.run.stage("export") / "stage.json").unlink()
    (job.run.path / "model" / "model.safetensors").write_bytes(b"half of a file")
    finish(reopened(job))
    assert {path.name: path.read_bytes() for path in (job.run.path / "model").iterdir()} == first
