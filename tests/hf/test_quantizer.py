"""The plug-in: what transformers, accelerate and lm-eval do with a packed model, and every trap of the road there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from liptt_cli.errors import FormatVersionError, IntegrityError
from liptt_cli.hf.config import LipttConfig
from liptt_cli.hf.quantizer import LipttQuantizer
from liptt_cli.kernels.dispatch import exact
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.models.hub import Source
from liptt_cli.packing.manifest import read_manifest
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.stages.export import Export, assembled, export_packed

TOKENS = torch.arange(24).reshape(2, 12) * 7 % 320


def logits(model: Any) -> Tensor:
    with torch.no_grad(), exact():
        found: Tensor = model(TOKENS).logits
    return found


def packed(model: torch.nn.Module) -> list[PackedLinear]:
    return [module for module in model.modules() if isinstance(module, PackedLinear)]


@pytest.fixture(scope="module")
def expected(packed_llama: Path) -> Tensor:
    return logits(AutoModelForCausalLM.from_pretrained(packed_llama))


def test_every_family_reloads_bit_for_bit_like_the_model_in_memory(
    tiny_models: Path, make_block_files: Callable[[Path, Path], list[Path]], tmp_path: Path
) -> None:
    overlay = Overlay.read(make_block_files(tiny_models, tmp_path))
    job = Export(Source(tiny_models, "tiny", None), overlay, Origin("tiny", None, "sign", "0" * 64))
    export_packed(job, tmp_path / "packed")
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert len(packed(loaded)) == len(overlay.forms) > 0
    assert torch.equal(logits(loaded.eval()), logits(assembled(job)))


def test_sharded_and_single_files_give_the_same_logits(
    tiny_llama: Path, make_packed_model: Callable[..., Path], tmp_path: Path, expected: Tensor
) -> None:
    directory = make_packed_model(tiny_llama, tmp_path / "sharded", shard_bytes=20_000)
    assert len(list(directory.glob("*.safetensors"))) > 2
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(directory)), expected)


def test_tied_embeddings_stay_tied(make_tiny_model: Any, make_packed_model: Any, tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "tied", tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_pretrained(make_packed_model(source, tmp_path / "packed"))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_saving_a_loaded_model_again_keeps_bits_and_config(
    packed_llama: Path, tmp_path: Path, expected: Tensor
) -> None:
    AutoModelForCausalLM.from_pretrained(packed_llama).save_pretrained(tmp_path, max_shard_size="20KB")
    first, second = (json.loads((folder / "config.json").read_text()) for folder in (packed_llama, tmp_path))
    assert second["quantization_config"] == first["quantization_config"]
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), expected)


@pytest.mark.parametrize("device_map", [{"": "cpu"}, "auto"])
def test_device_maps_give_the_same_logits(packed_llama: Path, device_map: Any, expected: Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed_llama, device_map=device_map)
    assert torch.equal(logits(model).cpu(), expected)


def test_blobs_offloaded_to_disk_leave_memory_and_give_the_same_logits(
    packed_llama: Path, tmp_path: Path, expected: Tensor
) -> None:
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}
    places |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
    model = AutoModelForCausalLM.from_pretrained(packed_llama, device_map=places, offload_folder=tmp_path)
    assert model.model.layers[1].mlp.up_proj.weight.is_meta
    assert torch.equal(logits(model), expected)
    with pytest.raises(ValueError, match="offloaded to disk"):
        model.dequantize()
    with pytest.warns(UserWarning, match="offloaded modules"):
        model.save_pretrained(tmp_path / "again")  # fetches what is on meta
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "again")), expected)


def test_bfloat16_leaves_the_blobs_alone(packed_llama: Path, expected: Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed_llama, dtype=torch.bfloat16)
    exact = AutoModelForCausalLM.from_pretrained(packed_llama)
    for one, other in zip(packed(model), packed(exact), strict=True):
        assert one.weight.dtype == torch.uint8 and torch.equal(one.weight, other.weight)
    assert model.model.norm.weight.dtype == torch.bfloat16
    found = logits(model)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()
    assert torch.equal(model.to(torch.float32).model.layers[0].mlp.up_proj.weight, packed(exact)[5].weight)


def test_it_generates(packed_llama: Path) -> None:
    model, tokenizer = (kind.from_pretrained(packed_llama) for kind in (AutoModelForCausalLM, AutoTokenizer))
    given = tokenizer("Once upon a time", return_tensors="pt")
    made = model.generate(**given, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert made.shape[1] == given["input_ids"].shape[1] + 5


def test_gradients_pass_the_packed_linears_to_the_embeddings(packed_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed_llama)
    model(TOKENS, labels=TOKENS).loss.backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0


def test_nothing_in_a_packed_linear_trains_after_loading(
    make_tiny_model: Any, make_packed_model: Any, tmp_path: Path
) -> None:
    source = make_tiny_model("qwen2", tmp_path / "qwen2")
    model = AutoModelForCausalLM.from_pretrained(make_packed_model(source, tmp_path / "packed"))
    held = [parameter for module in packed(model) for parameter in module.parameters()]
    assert any(parameter.is_floating_point() for parameter in held)  # the biases, which the loader would thaw
    assert not any(parameter.requires_grad for parameter in held)


def test_num_parameters_counts_bytes_so_the_manifest_counts_weights(packed_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed_llama)
    totals = read_manifest(packed_llama).totals
    assert sum(module.weight.numel() for module in packed(model)) == totals.payload_bytes
    assert totals.weights == sum(module.in_features * module.out_features for module in packed(model))
    assert model.num_parameters() < totals.weights + 2 * 320 * 32


def test_dequantize_gives_plain_linears(packed_llama: Path, expected: Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed_llama).dequantize()
    assert not packed(model) and not hasattr(model.config, "quantization_config")
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)


def test_dequantize_takes_the_name_of_a_dtype(packed_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(packed_llama).dequantize(dtype="bfloat16")
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16


def test_dequantize_at_load_by_config(packed_llama: Path, expected: Tensor) -> None:
    config = AutoConfig.from_pretrained(packed_llama)
    config.quantization_config["dequantize"] = True
    model = AutoModelForCausalLM.from_pretrained(packed_llama, config=config)
    assert not packed(model)
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)


def test_a_config_given_beside_the_stored_one_is_ignored_with_a_warning(packed_llama: Path) -> None:
    with pytest.warns(UserWarning, match="The `quantization_config` from the model will be used"):
        model = AutoModelForCausalLM.from_pretrained(packed_llama, quantization_config=LipttConfig(dequantize=True))
    assert len(packed(model)) == 14


def test_half_is_refused_by_transformers(packed_llama: Path) -> None:
    with pytest.raises(ValueError, match="quantized"):
        AutoModelForCausalLM.from_pretrained(packed_llama).half()


def test_a_plain_model_is_not_compressed_at_load(tiny_llama: Path) -> None:
    with pytest.raises(ValueError, match="pre-quantized"):
        AutoModelForCausalLM.from_pretrained(tiny_llama, quantization_config=LipttConfig())


def copy_with(packed_llama: Path, directory: Path, **changes: Any) -> Path:
    shutil.copytree(packed_llama, directory)
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] |= changes
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_a_newer_format_is_refused_before_its_forms_are_read(packed_llama: Path, tmp_path: Path) -> None:
    newer = copy_with(packed_llama, tmp_path / "newer", format_version=2, forms={"form0": {"node": "wavelet"}})
    with pytest.raises(FormatVersionError, match=r"format_version is 2, but this liptt reads at most 1; upgrade"):
        AutoModelForCausalLM.from_pretrained(newer)


def test_unknown_facts_of_a_later_writer_are_kept(packed_llama: Path, tmp_path: Path) -> None:
    later = copy_with(packed_llama, tmp_path / "later", comment="hello")
    model = AutoModelForCausalLM.from_pretrained(later)
    assert model.config.quantization_config.to_dict()["comment"] == "hello"


@pytest.mark.parametrize("layer", ["model.layers.9.mlp.up_proj", "model.norm"])
def test_a_layer_that_the_model_does_not_have_is_named(packed_llama: Path, tmp_path: Path, layer: str) -> None:
    wrong = copy_with(packed_llama, tmp_path / "wrong", layers={layer: "form0"})
    with pytest.raises(IntegrityError, match=layer):
        AutoModelForCausalLM.from_pretrained(wrong)


def test_it_says_that_it_saves_and_lets_adapters_train() -> None:
    quantizer = LipttQuantizer(LipttConfig())
    assert quantizer.is_serializable() and quantizer.is_trainable
