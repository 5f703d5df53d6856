"""Two-bit codes for compressed-tensors: stock transformers, with that package, gives the packed model's logits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from exports.writing import opened
from liptt_cli.errors import IntegrityError
from liptt_cli.exports.carrying import compressed_tensors_carried, fused_alike
from liptt_cli.exports.pack_quantized import PackQuantizedJob, read_back, write, written_bytes
from liptt_cli.kernels.dispatch import exact
from liptt_cli.layers.packed import PackedLinear

TOKENS = torch.arange(24).reshape(2, 12) * 7 % 300
Make = Callable[..., Path]


def job_of(directory: Path) -> PackQuantizedJob:
    model = opened(directory)
    dtype = model.config["dtype"]
    carried = {name: compressed_tensors_carried(form, dtype) for name, form in model.forms.items()}
    return PackQuantizedJob(model, fused_alike(carried, dtype), dtype)


def written(directory: Path, folder: Path, *, shard_bytes: int = 10**9) -> PackQuantizedJob:
    job = job_of(directory)
    folder.mkdir(exist_ok=True)
    write(job, folder, shard_bytes=shard_bytes)
    return job


def section(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["quantization_config"]


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("qwen3", {"head_dim": 64}),  # tied embeddings
        ("llama", {"group": 10**6}),  # a scale a row
        (
            "mistral",
            {"intermediate_size": 320, "except_for": ("up_proj", "1.self_attn.k_proj")},
        ),  # groups of 128 and 64
    ],
)
def test_stock_transformers_gives_the_packed_model_s_logits(
    make_signs: Make, tmp_path: Path, family: str, more: dict
) -> None:
    packed = make_signs(family, **more)
    job = written(packed, tmp_path / "out", shard_bytes=200_000)
    assert set(read_back(job, tmp_path / "out").values()) == {0.0}
    stock, model = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "out", packed))
    assert not any(isinstance(module, PackedLinear) for module in stock.modules())
    with torch.no_grad(), exact():
        assert torch.equal(stock(TOKENS).logits, model(TOKENS).logits)


def test_codes_are_the_package_s_own(signs_llama: Path, tmp_path: Path) -> None:
    job = written(signs_llama, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    shape = tensors[f"{name}.weight_shape"].tolist()
    codes = unpack_from_int32(tensors[f"{name}.weight_packed"], 2, torch.Size(shape))
    scales = tensors[f"{name}.weight_scale"].float().repeat_interleave(128, dim=1)
    assert torch.equal(codes.float() * scales, job.model.value(f"{name}.weight").dense())
    assert tensors[f"{name}.weight_scale"].dtype == torch.float16
    sizes = written_bytes(job, tmp_path / "out")
    assert sizes[f"{name}.weight"] == 256 * 384 // 4 + 2 * 256 * 3 + 16
    assert sum(sizes.values()) < (tmp_path / "out" / "model.safetensors").stat().st_size


def test_one_size_of_groups_is_one_scheme_and_what_stays_plain_is_named(signs_llama: Path, tmp_path: Path) -> None:
    written(signs_llama, tmp_path / "out")
    found = section(tmp_path / "out")
    assert (found["quant_method"], found["format"]) == ("compressed-tensors", "pack-quantized")
    (group,) = found["config_groups"].values()
    assert group["targets"] == ["Linear"] and group["weights"]["group_size"] == 128
    assert found["ignore"] == ["lm_head", "model.embed_tokens"]


def test_what_is_no_signs_is_densified_with_all_that_is_fused_with_it(packed_llama: Path, tmp_path: Path) -> None:
    job = written(packed_llama, tmp_path / "out")
    assert {each.kind for each in job.carried.values()} == {"densified"}
    assert set(read_back(job, tmp_path / "out").values()) == {0.0}
    assert len(section(tmp_path / "out")["ignore"]) == 14 + 2


def test_several_sizes_of_groups_are_several_schemes_by_name(make_signs: Make, tmp_path: Path) -> None:
    written(make_signs("llama", intermediate_size=320), tmp_path / "out")
    groups = section(tmp_path / "out")["config_groups"]
    assert {group["weights"]["group_size"]: len(group["targets"]) for group in groups.values()} == {128: 12, 64: 2}


def test_a_changed_code_or_number_is_found(signs_llama: Path, tmp_path: Path) -> None:
    job = written(signs_llama, tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    tensors = load_file(file)
    for name in ("model.layers.0.mlp.up_proj.weight_packed", "model.norm.weight"):
        changed = tensors[name].clone()
        changed.view(torch.int32)[0] ^= 2
        save_file({**tensors, name: changed}, file)
        with pytest.raises(IntegrityError, match="read back, it is not what the packed model has"):
            read_back(job, tmp_path / "out")
    save_file({name: tensor for name, tensor in tensors.items() if name != "model.norm.weight"}, file)
    with pytest.raises(IntegrityError, match="are not those that were written"):
        read_back(job, tmp_path / "out")
