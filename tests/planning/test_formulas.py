"""Formulas: the shape computed from `config.json` is that of the headers of the file that transformers writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.errors import ModelError
from liptt_cli.planning.formulas import shape_from_config
from liptt_cli.planning.sites import read_headers, shape_from_headers

CASES = [
    *((family, {}) for family in ("llama", "mistral", "qwen2", "qwen3", "opt", "mixtral", "qwen3_moe")),
    *((family, {"tie_word_embeddings": True}) for family in ("llama", "qwen2")),
    *((family, {"tie_word_embeddings": False}) for family in ("qwen3", "opt")),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("llama", {"num_key_value_heads": 4, "head_dim": 24}),
    ("qwen3", {"attention_bias": True}),
    ("qwen3_moe", {"attention_bias": True, "num_experts": 4, "tie_word_embeddings": True}),
    ("opt", {"word_embed_proj_dim": 16}),
    ("opt", {"do_layer_norm_before": False}),
    ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
]
LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "vocab_size": 10,
}


@pytest.mark.parametrize(("family", "overrides"), CASES, ids=lambda value: str(value))
def test_the_formula_is_the_file(family: str, overrides: dict[str, Any], make_tiny_model, tmp_path: Path):
    directory = make_tiny_model(family, tmp_path, **overrides)
    config = json.loads((directory / "config.json").read_text())
    assert shape_from_config(config) == shape_from_headers(read_headers(directory), vocabulary=config["vocab_size"])


def test_what_an_old_config_leaves_out_has_the_family_s_default():
    old = shape_from_config(LLAMA)
    assert old.site_dtype_bytes == 4
    assert {site.shape for site in old.sites} == {(8, 8), (16, 8), (8, 16)}
    assert old.other_bytes == 4 * (2 * 80 + 3 * 8)
    assert shape_from_config({**LLAMA, "torch_dtype": "float16"}).dense_bytes == old.dense_bytes // 2
    qwen = shape_from_config({**LLAMA, "model_type": "qwen3"})
    assert next(site.shape for site in qwen.sites if site.name.endswith("q_proj")) == (256, 8)


def test_a_mixture_with_blocks_that_are_none_has_no_formula():
    mixture = {**LLAMA, "model_type": "qwen3_moe", "moe_intermediate_size": 4, "num_experts": 2}
    assert len(shape_from_config(mixture).sites) == 4 + 2 * 3
    for some in ({"mlp_only_layers": [0]}, {"decoder_sparse_step": 2}):
        with pytest.raises(ModelError, match=r"experts in some blocks only has no formula here; download the model"):
            shape_from_config({**mixture, **some})


def test_unknown_families_and_broken_configs_are_refused():
    with pytest.raises(ModelError, match=r'model_type "bloom" has no formula here \(known: llama, .*opt\)'):
        shape_from_config({"model_type": "bloom"})
    with pytest.raises(ModelError, match="llama model: 'hidden_size' is missing"):
        shape_from_config({"model_type": "llama"})
    with pytest.raises(ModelError, match="'float8' is missing or strange"):
        shape_from_config({**LLAMA, "dtype": "float8"})
