"""Mixtures of experts through all six stages and back: nothing is skipped, and stock transformers reads the export."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import liptt_cli  # noqa: F401 - registers the packed format
from liptt_cli.cli.plan import plan_command
from liptt_cli.errors import ConfigError
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.models.experts import is_fused
from liptt_cli.models.hub import Source
from liptt_cli.packing.artifact import verify_files
from liptt_cli.planning.architectures import model_shape
from liptt_cli.stages.assemble import compressed_model
from liptt_cli.stages.elsewhere import Elsewhere, Wishes, export_elsewhere
from liptt_cli.stages.fingerprint import logits_of, verify_logits
from liptt_cli.stages.job import Job
from running import finish, finished, make_job, short
from tiny_models import MIXTURES

IDS = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(5))
PLAIN = "export.to=[liptt, hf]"
METHODS = {
    "sign": short("sign", PLAIN),
    "liptt-onestep": short("liptt-onestep", PLAIN, "binarize.solver.iterations=1", "finetune.steps=1"),
}
LINEARS = {"mixtral": 2 * (4 + 3 * 4), "qwen3_moe": 2 * (4 + 3 * 6)}
ON_DISK = {"mixtral": "block_sparse_moe.experts.3.w1", "qwen3_moe": "mlp.experts.3.gate_proj"}


@pytest.fixture(scope="module")
def mixtures(make_tiny_model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family of mixtures."""
    folder = tmp_path_factory.mktemp("mixtures")
    return {family: make_tiny_model(family, folder / family) for family in MIXTURES}


def loaded(directory: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


@torch.no_grad()
def in_memory(job: Job) -> Tensor:
    return compressed_model(job, job.result_files())(input_ids=IDS).logits


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("method", METHODS)
def test_a_mixture_comes_back_bit_for_bit(method: str, family: str, mixtures: dict[str, Path]):
    job = finished(mixtures[family], method, *METHODS[method])
    packed = loaded(job.run.path / "model")
    assert sum(isinstance(module, PackedLinear) for module in packed.modules()) == len(job.forms) == LINEARS[family]
    with torch.no_grad():
        logits = packed(input_ids=IDS).logits
    assert torch.isfinite(logits).all() and torch.equal(logits, in_memory(job))
    manifest = verify_files(job.run.path / "model")
    assert verify_logits(Source(job.run.path / "model", family, None), manifest.fingerprint) == 0.0
    with safe_open(job.run.path / "model" / "model.safetensors", framework="pt") as file:
        assert file.get_tensor(f"model.layers.1.{ON_DISK[family]}.weight").dtype == torch.uint8
        names = set(file.keys())
    with safe_open(mixtures[family] / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == names


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("method", METHODS)
def test_stock_transformers_reads_the_plain_export(method: str, family: str, mixtures: dict[str, Path]):
    """Its own fused experts, with the weights that the packed ones stand for."""
    job = finished(mixtures[family], method, *METHODS[method])
    stock, packed = loaded(job.run.path / "model-hf"), loaded(job.run.path / "model")
    assert sum(is_fused(module) for module in stock.modules()) == 2
    torch.testing.assert_close(logits_of(stock, IDS), logits_of(packed, IDS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("method", METHODS)
def test_the_plan_is_what_compress_makes(method: str, family: str, mixtures: dict[str, Path], capsys):
    """From the headers, and from config.json alone."""
    job = finished(mixtures[family], method, *METHODS[method])
    words = [f"model={mixtures[family]}", *METHODS[method]]
    plan_command(f"methods/{method}", overrides=words, as_json=True)
    planned = json.loads(capsys.readouterr().out)
    facts = job.run.facts("decompose")
    assert planned["totals"]["payload_bytes"] == facts["payload_bytes"]
    assert {row["linear"]: row["bytes"] for row in planned["linears"]} == {
        name: linear["bytes"]
        for name, linear in json.loads((job.run.path / "model" / "liptt.json").read_text())["linears"].items()
    }
    assert planned["totals"]["coverage"] == job.run.facts("load")["coverage"]
    bare = job.run.path / "bare"
    bare.mkdir(exist_ok=True)
    (bare / "config.json").write_text((mixtures[family] / "config.json").read_text())
    plan_command(f"methods/{method}", overrides=[f"model={bare}", *METHODS[method]], as_json=True)
    assert json.loads(capsys.readouterr().out)["linears"] == planned["linears"]


def test_the_report_counts_thin_experts_and_names_what_stays_dense(mixtures: dict[str, Path]):
    """Few tokens: some experts see none; all are fitted, and the run's log and report tell."""
    few = ("calibration.windows=1", "calibration.window_tokens=8", "binarize.metric.cols=full")
    job = finished(mixtures["qwen3_moe"], "sign", *short("sign"), *few)
    report = json.loads((job.run.path / "report.json").read_text())
    experts, told = report["experts"], (job.run.path / "report.md").read_text()
    assert experts["experts"] == experts["thin"] == 12 and 1 <= experts["unseen"] < 12
    unseen = [name for name, facts in report["linears"].items() if facts.get("tokens") == 0]
    assert {name.rpartition(".")[0] for name in unseen} and len(unseen) == 3 * experts["unseen"]
    assert all(report["linears"][name]["error"] < 1 for name in unseen)
    assert sum(f.get("tokens", 0) for name, f in report["linears"].items() if name.endswith("down_proj")) == 2 * 2 * 8
    assert f"{experts['told']}." in told and experts["told"] in (job.run.path / "log.txt").read_text()
    assert report["coverage"]["left_out"] == {"model.layers.*.mlp.gate": 2 * 6 * 32}
    assert "left dense: model.layers.*.mlp.gate (0.78%)." in told
    assert torch.isfinite(in_memory(job)).all()


def test_blocks_are_tuned_through_their_experts_and_twice_gives_the_same_bytes(make_tiny_model, tmp_path: Path):
    """Rest, codes and scales of each block, gradients for rows and weights, evidence by gradient, then end to end."""
    sizes = {"num_hidden_layers": 1, "num_local_experts": 3, "num_experts_per_tok": 1}
    model = make_tiny_model("mixtral", tmp_path / "model", **sizes)
    fisher = "objectives: [{kind: hidden_square, weights: fisher}]"
    wishes = short(
        "liptt-ptq",
        "binarize.metric.rows=diagonal",
        "binarize.solver.iterations=1",
        f"binarize.rest={{steps: 1, batch_windows: 4, before: [down], train: [weights], {fisher}}}",
        "binarize.codes.steps=1",
        "binarize.codes.when=block",
        "finetune.steps=1",
        "calibration.gradient_windows=4",
        "decompose.allocator={kind: knapsack, at_unit: bits, at_bits: [2.4, 3.4], iterations: 1, weight_by: gradient}",
        "bits_per_weight=2.8",
    )
    made = []
    for name in ("one", "two"):
        job = make_job(model, "liptt-ptq", *wishes, folder=tmp_path / name)
        finish(job)
        made.append(hashlib.sha256((job.run.path / "model" / "model.safetensors").read_bytes()).hexdigest())
    assert made[0] == made[1]
    assert {record["trained"] for record in job.run.facts("binarize")["tuning"]} == {"rest", "codes"}
    with torch.no_grad():
        assert torch.equal(loaded(job.run.path / "model")(input_ids=IDS).logits, in_memory(job))


@pytest.mark.parametrize("skip", ["*.w1", "*.mlp.experts.*"])
def test_experts_that_are_skipped_stay_dense_where_they_were(skip: str, mixtures: dict[str, Path], tmp_path: Path):
    """One linear of each, or all of them; a model that was loaded and saved again loads too."""
    job = finished(mixtures["mixtral"], "sign", *short("sign", f"load.skip=['{skip}']"))
    packed = loaded(job.run.path / "model")
    assert sum(isinstance(module, PackedLinear) for module in packed.modules()) == len(job.forms)
    expected = logits_of(compressed_model(job, job.result_files()), IDS)
    torch.testing.assert_close(logits_of(packed, IDS), expected, rtol=0, atol=1e-5)
    packed.save_pretrained(tmp_path)
    assert torch.equal(logits_of(loaded(tmp_path), IDS), logits_of(packed, IDS))


def test_a_target_without_a_place_for_experts_is_refused(mixtures: dict[str, Path], tmp_path: Path):
    job = finished(mixtures["mixtral"], "sign", *METHODS["sign"])
    wanted = Elsewhere(job.run.path / "model", "compressed-tensors", Wishes(allow_densify=True))
    with pytest.raises(ConfigError, match=r"compressed-tensors has no place for the experts .*; export to hf"):
        export_elsewhere(wanted, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"export\.to: gguf has no place for the experts"):
        plan_command("methods/sign", overrides=[f"model={mixtures['mixtral']}", "export.to=[gguf]"])


def test_experts_stored_fused_are_compressed_as_those_stored_one_by_one(mixtures: dict[str, Path], tmp_path: Path):
    """As transformers saves them if told to: plan, blobs and logits are those of the other layout."""
    source, fused = mixtures["qwen3_moe"], tmp_path / "fused"
    shutil.copytree(source, fused)
    loaded(source).save_pretrained(fused, save_original_format=False)
    with safe_open(fused / "model.safetensors", framework="pt") as file:
        assert file.get_slice("model.layers.0.mlp.experts.gate_up_proj").get_shape() == [6, 64, 32]
    shapes = [model_shape(directory) for directory in (source, fused)]
    assert shapes[0].sites == shapes[1].sites and shapes[0].dense_bytes == shapes[1].dense_bytes
    jobs = [finished(directory, "sign", *METHODS["sign"]) for directory in (source, fused)]
    made = [load_file(job.run.path / "model" / "model.safetensors") for job in jobs]
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
    assert is_fused(loaded(jobs[1].run.path / "model-hf").model.layers[0].mlp.experts)
