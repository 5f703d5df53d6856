"""A file of noise has the layout of GGUF: read back by the public package, tensor by tensor."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from liptt_cli.errors import ModelError
from liptt_cli.exports.gguf_blocks import decode_q1_0
from liptt_cli.exports.gguf_noise import TYPES, why_not, write_noise
from tiny_models import tiny_config

SHAPE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}


@pytest.mark.parametrize("kind", ["TQ2_0", "Q1_0", "Q4_0", "F16"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_public_reader_finds_every_tensor(family: str, kind: str, tmp_path: Path) -> None:
    config = tiny_config(family, **SHAPE).to_dict()
    write_noise(tmp_path / "noise.gguf", config, kind)
    found = gguf.GGUFReader(tmp_path / "noise.gguf")
    tensors = {tensor.name: tensor for tensor in found.tensors}
    norms = 4 if family == "qwen3" else 2
    assert len(tensors) == 3 + 2 * (7 + norms)
    assert tensors["blk.1.ffn_down.weight"].tensor_type.name == kind
    assert list(tensors["blk.1.ffn_down.weight"].shape) == [512, 256]
    assert tensors["output.weight"].tensor_type.name == "F16"
    assert (tensors["output_norm.weight"].data == 1).all()
    assert found.get_field("tokenizer.ggml.model").contents() == "no_vocab"
    data = tensors["blk.0.attn_k.weight"].data
    numbers = decode_q1_0(data) if kind == "Q1_0" else gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind])
    assert np.isfinite(numbers).all()
    assert 0.005 < np.abs(numbers).max() < 1


def test_columns_that_are_no_whole_blocks_are_told() -> None:
    config = tiny_config("llama", **{**SHAPE, "intermediate_size": 384}).to_dict()
    assert why_not(config, "TQ2_0") == "384 columns are no multiple of its blocks of 256"
    assert why_not(config, "Q1_0") is None
    assert TYPES["Q1_0"].size((4, 256)) == 4 * 2 * 18


def test_other_families_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'opt'"):
        write_noise(tmp_path / "noise.gguf", {"model_type": "opt"}, "F16")
