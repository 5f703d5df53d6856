"""The compressed model in memory: packed linears and changed tensors over the dense one, later files over earlier."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from liptt_cli.kernels.dispatch import exact
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.models.hub import load_model, locate
from liptt_cli.packing.block_file import BlockResult, write_block
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages.assemble import compressed_model, dense_model, lay_over
from running import finished, short

IDS = torch.arange(40).reshape(2, 20)


def test_the_dense_model_is_frozen_and_whole(tiny_models: Path):
    model = dense_model(finished(tiny_models, "sign", *short("sign")))
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    other = load_model(locate(str(tiny_models)), dtype=torch.float32)
    assert torch.equal(model(input_ids=IDS).logits, other(input_ids=IDS).logits)


def test_packed_linears_mean_their_dense_weights_and_keep_their_bias(tiny_models: Path):
    job = finished(tiny_models, "sign", *short("sign"))
    packed, plain = compressed_model(job, job.result_files()), dense_model(job)
    overlay = Overlay.read(job.result_files())
    for name in overlay.forms:
        linear = plain.get_submodule(name)
        linear.weight.copy_(overlay.value(name).dense())
        assert isinstance(packed.get_submodule(name), PackedLinear)
        bias = packed.get_submodule(name).bias
        assert bias is None if linear.bias is None else torch.equal(bias, linear.bias)
    with torch.no_grad(), exact():
        torch.testing.assert_close(packed(input_ids=IDS).logits, plain(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)


def test_later_files_lie_over_earlier_ones(tiny_llama: Path):
    job = finished(tiny_llama, "liptt-onestep", *short("liptt-onestep"))
    first, last = (compressed_model(job, files) for files in (job.block_files("binarize"), job.result_files()))
    trained = Overlay.read(job.block_files("finetune"))
    for name in trained.forms:
        assert torch.equal(last.get_submodule(name).weight, trained.blob(name))
        assert not torch.equal(first.get_submodule(name).weight, trained.blob(name))
    assert torch.equal(last.model.norm.weight, trained.changed("model.norm.weight"))
    assert torch.equal(first.model.norm.weight, dense_model(job).model.norm.weight)


def test_tied_tables_stay_one(make_tiny_model: Callable[..., Path], tmp_path: Path):
    source = make_tiny_model("qwen3", tmp_path / "model")
    write_block(tmp_path / "outside.safetensors", BlockResult({}, {}, {"model.norm.weight": torch.ones(32)}))
    save_file(
        {"model.embed_tokens.weight": torch.ones(320, 32)}, tmp_path / "table.safetensors", metadata={"forms": "{}"}
    )
    model = load_model(locate(str(source)), dtype=torch.float32)
    lay_over(model, Overlay.read([tmp_path / "outside.safetensors", tmp_path / "table.safetensors"]))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (model.lm_head.weight == 1).all() and (model.model.norm.weight == 1).all()
