"""A streamed model is the whole model, bit for bit, with one block in memory at a time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from liptt_cli.errors import IntegrityError, ModelError
from liptt_cli.models.hub import Source, load_model
from liptt_cli.models.streamed import StreamedModel

WEIGHTS = "model.safetensors"
MakeTinyModel = Callable[..., Path]


def source_of(directory: Path) -> Source:
    """Name a directory."""
    return Source(directory, directory.name, None)


def some_ids(batch: int = 2, tokens: int = 21) -> Tensor:
    """Return seeded token ids, longer than the sliding windows."""
    return torch.randint(0, 300, (batch, tokens), generator=torch.Generator().manual_seed(5))


def streamed_logits(model: StreamedModel, ids: Tensor) -> Tensor:
    """Run a model block by block."""
    hidden, arguments = model.calls(ids)
    for number in range(model.structure.blocks):
        with model.block(number) as block, torch.no_grad():
            hidden = model.run_block(block, hidden, arguments[number])
    return model.logits(ids, hidden)


def assert_same_logits(directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Compare streamed and whole, bit for bit."""
    ids = some_ids()
    with torch.no_grad():
        expected = load_model(source_of(directory), dtype=dtype)(ids).logits
    assert torch.equal(streamed_logits(StreamedModel(source_of(directory), dtype=dtype), ids), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_streamed_logits_are_the_whole_models(tiny_models: Path, dtype: torch.dtype) -> None:
    """Every family, with windows longer than what slides."""
    assert_same_logits(tiny_models, dtype)


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_heads(family: str, tied: bool, make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    """A tied head is not stored, and is the embedding."""
    assert_same_logits(make_tiny_model(family, tmp_path, tie_word_embeddings=tied))
    names = StreamedModel(source_of(tmp_path), dtype=torch.float32).outside_names()
    assert ("lm_head.weight" in names) is not tied


@pytest.mark.parametrize("family", ["llama", "trellis"])
def test_sharded_saves(family: str, make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    """Blocks that lie across several files."""
    directory = make_tiny_model(family, tmp_path, max_shard_size="20KB")
    assert len(list(directory.glob("*.safetensors"))) > 3
    assert_same_logits(directory)


def test_three_blocks_and_post_norms(make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    """OPT's variant with norms behind and projections around the blocks."""
    overrides = {"do_layer_norm_before": False, "word_embed_proj_dim": 16, "num_hidden_layers": 3}
    assert_same_logits(make_tiny_model("opt", tmp_path, **overrides))


def test_a_base_models_names(make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    """Weights that were saved without the prefix of the base model."""
    make_tiny_model("llama", tmp_path, tie_word_embeddings=True)
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})
    assert_same_logits(tmp_path)


def test_a_tied_config_with_two_different_tensors(make_tiny_model: MakeTinyModel, tmp_path: Path) -> None:
    """Transformers believes the file then, and so do we; releasing and reading again changes nothing."""
    make_tiny_model("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same_logits(tmp_path)


def test_structure(tiny_models: Path) -> None:
    """Path, roles by group, coverage; nothing of the blocks became real."""
    model = StreamedModel(source_of(tiny_models), dtype=torch.float32)
    structure = model.structure
    family = tiny_models.name
    assert structure.block_path == {"opt": "model.decoder.layers", "trellis": "trunk.cells"}.get(family, "model.layers")
    roles = [{site.role for site in group} for group in structure.groups(1)]
    ends = {"opt": [{"up"}, {"down"}], "trellis": [{"expand"}, {"contract"}]}.get(family, [{"gate", "up"}, {"down"}])
    assert roles == [{"query", "key", "value"}, {"output"}, *ends]
    assert structure.coverage.share == 1
    assert all(parameter.is_meta for parameter in model._blocks.parameters())


def test_structure_reads_no_block(tiny_llama: Path, tmp_path: Path) -> None:
    """NaN in a block does not matter before the block is read; then the tensor and its file are named."""
    directory = Path(shutil.copytree(tiny_llama, tmp_path / "llama"))
    tensors = load_file(directory / WEIGHTS)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    model = StreamedModel(source_of(directory), dtype=torch.float32)
    assert model.structure.blocks == 2
    with model.block(0):
        pass
    with (
        pytest.raises(IntegrityError, match=r"model\.safetensors.*model\.layers\.1\.mlp\.up_proj\.weight"),
        model.block(1),
    ):
        pass


def test_a_block_is_real_only_while_it_is_lent(tiny_models: Path) -> None:
    """Frozen, eval, equal to the file; on meta afterwards; the skeleton never holds it."""
    model = StreamedModel(source_of(tiny_models), dtype=torch.float32)
    stored = load_file(tiny_models / WEIGHTS)
    prefix = model.structure.block_name(1) + "."
    with model.block(1) as block:
        assert not block.training
        values = block.state_dict(keep_vars=True)
        assert {prefix + path for path in values} == set(model.block_parameter_names(1))
        for path, value in values.items():
            assert not value.requires_grad
            assert torch.equal(value, stored[prefix + path])
        assert all(parameter.is_meta for parameter in model._blocks.parameters())
    assert all(parameter.is_meta for parameter in block.parameters())


def test_what_the_caller_swaps_in_stays(tiny_llama: Path) -> None:
    """A compressed linear survives the loan; the next loan is dense again; two loans do not share."""
    model = StreamedModel(source_of(tiny_llama), dtype=torch.float32)
    with model.block(0) as block, model.block(0) as other:
        mine = nn.Linear(32, 64)
        block.mlp.up_proj = mine
        assert other.mlp.up_proj is not mine
        other.mlp.gate_proj.weight.zero_()
        assert block.mlp.gate_proj.weight.any()
    assert block.mlp.up_proj is mine
    assert not mine.weight.is_meta
    with model.block(0) as again:
        assert again.mlp.up_proj is not mine
        assert again.mlp.gate_proj.weight.any()


def test_a_block_returns_to_meta_when_work_on_it_fails(tiny_llama: Path) -> None:
    """An error inside the loan passes through."""
    model = StreamedModel(source_of(tiny_llama), dtype=torch.float32)
    with pytest.raises(KeyError), model.block(0) as block:
        raise KeyError
    assert all(parameter.is_meta for parameter in block.parameters())


def test_outside_names_and_block_names_are_the_file(tiny_models: Path) -> None:
    """Together they are all stored tensors, each once."""
    model = StreamedModel(source_of(tiny_models), dtype=torch.float32)
    names = [*model.outside_names(), *model.block_parameter_names(0), *model.block_parameter_names(1)]
    assert sorted(names) == sorted(model.shards.names())


def test_the_head_is_read_only_for_logits_and_can_be_released(tiny_llama: Path) -> None:
    """Recording calls needs the embeddings alone."""
    model = StreamedModel(source_of(tiny_llama), dtype=torch.float32)
    ids = some_ids(1, 5)
    hidden, _ = model.calls(ids)
    assert model._skeleton.lm_head.weight.is_meta
    assert not model._skeleton.model.embed_tokens.weight.is_meta
    before = model.logits(ids, hidden)
    model.release()
    assert all(parameter.is_meta for parameter in model._skeleton.parameters())
    assert torch.equal(model.logits(ids, hidden), before)


def test_gradients_flow_through_a_block(tiny_llama: Path) -> None:
    """To its input, and to weights that the caller unfreezes."""
    model = StreamedModel(source_of(tiny_llama), dtype=torch.float32)
    hidden, arguments = model.calls(some_ids(1, 5))
    with model.block(0) as block:
        block.mlp.down_proj.weight.requires_grad_(True)
        entered = hidden.clone().requires_grad_(True)
        model.run_block(block, entered, arguments[0]).sum().backward()
        assert entered.grad is not None
        assert block.mlp.down_proj.weight.grad is not None


def test_the_tokenizer_is_the_models(tiny_llama: Path) -> None:
    """Loaded once."""
    model = StreamedModel(source_of(tiny_llama), dtype=torch.float32)
    assert model.tokenizer.eos_token_id == model.config.eos_token_id
    assert model.tokenizer is model.tokenizer


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"])
@pytest.mark.parametrize("shape", [None, (3, 3)])
def test_a_weight_that_is_absent_or_misshapen_is_refused(
    name: str, shape: tuple[int, int] | None, tiny_llama: Path, tmp_path: Path
) -> None:
    """In a block and outside."""
    directory = Path(shutil.copytree(tiny_llama, tmp_path / "llama"))
    tensors = load_file(directory / WEIGHTS)
    del tensors[name]
    if shape is not None:
        tensors[name] = torch.ones(shape)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=name.rpartition("layers.1.")[2]):
        streamed_logits(StreamedModel(source_of(directory), dtype=torch.float32), some_ids(1, 4))


def test_a_packed_model_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    """It has no dense weights to stream."""
    directory = Path(shutil.copytree(tiny_llama, tmp_path / "llama"))
    config = json.loads((directory / "config.json").read_text()) | {"quantization_config": {"quant_method": "liptt"}}
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="packed already"):
        StreamedModel(source_of(directory), dtype=torch.float32)
