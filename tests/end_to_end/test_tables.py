"""Embedding and head at 8 and 4 bits: whole runs of tied and untied models, and all that reads what they made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from liptt_cli.cli.main import app
from liptt_cli.decoding.decoder import Decoder
from liptt_cli.decoding.engines import take_engine
from liptt_cli.forms.base import blob_bytes
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.kernels.dispatch import exact
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.packed_table import PackedEmbedding
from liptt_cli.packing.account import account
from liptt_cli.packing.artifact import verify_files
from liptt_cli.packing.overlay import Overlay
from liptt_cli.planning.architectures import model_shape
from liptt_cli.planning.plan import chosen_sites, structure
from liptt_cli.stages.assemble import compressed_model
from liptt_cli.stages.job import Job
from running import finish, make_job, short

TOKENS = torch.arange(24).reshape(2, 12) * 7 % 320
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


def logits(model: Any) -> Tensor:
    with torch.no_grad(), exact():
        found: Tensor = model(TOKENS).logits
    return found


def bits_of(run: Job) -> int:
    return int(run.config.tables.bits or 0)


def is_tied(run: Job) -> bool:
    return len(run.tables) == 1


def overlay_of(run: Job) -> Overlay:
    return Overlay.of_packed(run.run.path / "model")


@pytest.fixture(scope="module", params=[(True, 8), (False, 4)], ids=["tied-8", "untied-4"])
def run(request: pytest.FixtureRequest, make_tiny_model: Callable[..., Path], tmp_path_factory: Any) -> Job:
    tied, bits = request.param
    folder = tmp_path_factory.mktemp("tables")
    model = make_tiny_model("llama", folder / "model", tie_word_embeddings=tied)
    words = (
        f"tables.bits={bits}",
        "tables.group_columns=20",
        "export.to=[liptt, hf, gguf, compressed-tensors]",
        "export.gguf_tables=F32",
    )
    job = make_job(model, "sign", *short("sign", *words, "export.allow_densify=true"), folder=folder / "run")
    finish(job)
    return job


@pytest.fixture(scope="module")
def loaded(run: Job) -> Any:
    model, report = AutoModelForCausalLM.from_pretrained(run.run.path / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return model


def test_it_reloads_with_the_logits_of_the_run_and_stays_tied(run: Job, loaded: Any) -> None:
    assert isinstance(loaded.get_input_embeddings(), PackedEmbedding)
    assert isinstance(loaded.get_output_embeddings(), PackedLinear)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == is_tied(run)
    assert torch.equal(logits(loaded), logits(compressed_model(run, run.result_files()).eval()))


def test_rows_and_products_are_those_of_the_rounded_source(run: Job, loaded: Any) -> None:
    source = load_file(run.source.path / "model.safetensors")
    overlay = overlay_of(run)
    for table in run.tables:
        value, weight = overlay.value(table.name).dense(), source[f"{table.name}.weight"]
        error = (value - weight).square().sum() / weight.square().sum()
        assert error < (5e-5 if bits_of(run) == 8 else 1.2e-2)
        top = weight[:, :20].abs().amax(1)  # the range of a group: of 8 bits all of it is kept
        assert bits_of(run) == 4 or torch.all((value[:, :20].abs().amax(1) - top).abs() <= 0.6 * top / 127)
    rows = loaded.get_input_embeddings()(TOKENS)
    assert torch.equal(rows, overlay.value(EMBEDDING).dense()[TOKENS])
    head = overlay.value(EMBEDDING if is_tied(run) else HEAD).dense()
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        by_kernel = loaded.lm_head(x)  # where there is one
        torch.testing.assert_close(by_kernel, x @ head.T, rtol=5e-3, atol=5e-3)
    with exact():
        torch.testing.assert_close(loaded.lm_head(x), x @ head.T)


def test_bytes_are_those_of_the_plan_and_told_beside_the_linears(run: Job) -> None:
    plan = structure(run.config, shape := model_shape(run.source.path), chosen_sites(run.config, shape))
    packed = run.run.path / "model"
    stored, manifest, spent = (
        load_file(packed / "model.safetensors"),
        verify_files(packed),
        account(packed, overlay_of(run)),
    )
    form = GridForm((320, 32), "int8" if bits_of(run) == 8 else "int4", 1, EnvelopeForm(320, 20))
    assert plan.tables == {table.name: form for table in run.tables}
    assert blob_bytes(form) == 320 * 32 * bits_of(run) // 8 + 320 * 2 * 2
    assert {name: table.bytes for name, table in manifest.tables.items()} == dict.fromkeys(
        plan.tables, blob_bytes(form)
    )
    assert sum(tensor.nbytes for tensor in stored.values()) == plan.tensor_bytes
    assert plan.table_bytes == spent["embedding and head, rounded"] == len(run.tables) * blob_bytes(form)
    assert sum(spent.values()) == manifest.totals.file_bytes
    assert manifest.totals.payload_bytes == plan.payload_bytes and EMBEDDING not in manifest.linears
    listed = json.loads((packed / "config.json").read_text())["quantization_config"]
    assert set(listed["tables"]) == {table.name for table in run.tables}
    assert not {EMBEDDING, HEAD} & {*listed["layers"], *listed["modules_to_not_convert"]}


def test_the_report_and_inspect_tell_of_them(run: Job) -> None:
    report = json.loads((run.run.path / "report.json").read_text())
    said = CliRunner().invoke(app, ["inspect", str(run.run.path), "--json"])
    assert said.exit_code == 0, said.output
    tables = json.loads(said.stdout)["tables"]
    assert tables.keys() == report["tables"].keys() == {table.name for table in run.tables}
    for name, table in tables.items():
        assert table["error"] == report["tables"][name]["error"] < (1e-4 if bits_of(run) == 8 else 2e-2)
        assert f"{name}: {table['bits_per_weight']:.2f} bits" in (run.run.path / "report.md").read_text()


def test_other_programs_get_the_rounded_numbers(run: Job, loaded: Any) -> None:
    import gguf

    plain = AutoModelForCausalLM.from_pretrained(run.run.path / "model-hf")
    overlay = overlay_of(run)
    assert torch.equal(plain.get_input_embeddings().weight, overlay.value(EMBEDDING).dense())
    torch.testing.assert_close(logits(plain), logits(loaded), rtol=1e-4, atol=1e-4)
    for folder in ("model-gguf", "model-compressed-tensors"):
        notes = json.loads((run.run.path / folder / "export.json").read_text())["notes"]
        assert any(EMBEDDING in note and "plain numbers" in note for note in notes)
    stored = load_file(run.run.path / "model-compressed-tensors" / "model.safetensors")
    assert torch.equal(stored[f"{EMBEDDING}.weight"], overlay.value(EMBEDDING).dense())
    reader = gguf.GGUFReader(run.run.path / "model-gguf" / "model.gguf")
    found = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    assert torch.equal(found["token_embd.weight"], overlay.value(EMBEDDING).dense())
    assert ("output.weight" in found) != is_tied(run)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_lean_loop_is_transformers(run: Job, dtype: torch.dtype) -> None:
    model = AutoModelForCausalLM.from_pretrained(run.run.path / "model", dtype=dtype)
    assert model.get_input_embeddings()(TOKENS).dtype == dtype
    expected = logits(model.to(torch.float32))[0].detach()
    ids = TOKENS[0].tolist()
    with exact():
        decoder = Decoder(model, capacity_tokens=len(ids))
        found = torch.stack([decoder.prefill(ids[:4]), *map(decoder.step, ids[4:])])
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected[3:], rtol=2e-5, atol=2e-5 * scale)
    with torch.no_grad():
        by_kernel = model(TOKENS).logits[0]
    assert (by_kernel - expected).norm() < 5e-3 * expected.norm()


def test_bytes_read_for_a_token_count_the_packed_head_and_one_row(run: Job, loaded: Any) -> None:
    facts = take_engine(loaded, lean=True, capacity_tokens=8).facts()
    stored = load_file(run.run.path / "model" / "model.safetensors")
    unread = (
        0 if is_tied(run) else stored[f"{EMBEDDING}.weight"].nbytes - -(-stored[f"{EMBEDDING}.weight"].nbytes // 320)
    )
    assert facts["weight_bytes_per_token"] == sum(tensor.nbytes for tensor in stored.values()) - unread
    assert facts["packed_linears"] == 14 and facts["packed_head"] is not None and facts["dtype"] == "float32"


def test_saving_casting_densifying_and_offloading(run: Job, loaded: Any, tmp_path: Path) -> None:
    expected = logits(loaded)
    loaded.save_pretrained(tmp_path / "again", max_shard_size="20KB")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", device_map="auto")
    assert torch.equal(logits(again).cpu(), expected)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == is_tied(run)
    with pytest.raises(ValueError, match="dequantize"):
        again.resize_token_embeddings(400)
    plain = again.dequantize()
    assert plain.resize_token_embeddings(400).weight.shape == (400, 32)
    plain.resize_token_embeddings(320)
    assert (plain.lm_head.weight is plain.model.embed_tokens.weight) == is_tied(run)
    torch.testing.assert_close(logits(plain).cpu(), expected, rtol=1e-4, atol=1e-4)
    places = {"model.embed_tokens": "disk", "lm_head": "disk", "model.layers": "cpu", "model.norm": "cpu"}
    offloaded = AutoModelForCausalLM.from_pretrained(
        run.run.path / "model", device_map=places | {"model.rotary_emb": "cpu"}, offload_folder=tmp_path / "disk"
    )
    assert torch.equal(logits(offloaded), expected)
