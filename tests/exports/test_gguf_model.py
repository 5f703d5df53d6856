"""What llama.cpp is told of a model: names as its own package has them, keys, the order of rows, refusals."""

import json
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from liptt_cli.errors import ModelError
from liptt_cli.exports.gguf_model import architecture, gguf_name
from tiny_models import tiny_config

NAMES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}


def told(family: str, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tiny_config(family).to_json_string()) | changes
    return found


def keys(config: dict[str, Any]) -> dict[str, Any]:
    return {entry.key: entry.value for entry in architecture(config).entries}


@pytest.mark.parametrize("family", NAMES)
def test_names_are_those_of_the_package(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            tiny_config(family, **({"mlp_bias": True} if family == "llama" else {}))
        )
    official = gguf.get_tensor_name_map(gguf.MODEL_ARCH[NAMES[family]], 2)
    for name in model.state_dict():
        assert gguf_name(name) == official.get_name(name, try_suffixes=(".weight", ".bias"))
        assert gguf_name(name.removeprefix("model.")) == gguf_name(name)
    assert gguf_name("model.layers.0.self_attn.rotary_emb.inv_freq") is None


@pytest.mark.parametrize("name", ["model.layers.0.mlp.experts.gate.weight", "transformer.h.0.attn.weight", "odd"])
def test_a_tensor_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="has no name in GGUF"):
        gguf_name(name)


@pytest.mark.parametrize("family", NAMES)
def test_sizes_are_told_under_the_architecture_s_own_keys(family: str) -> None:
    name = NAMES[family].lower()
    found = keys(told(family))
    head = 16 if family == "qwen3" else 8
    assert found["general.architecture"] == name
    expected = {
        **{"vocab_size": 320, "context_length": 256, "embedding_length": 32, "block_count": 2},
        **{"feed_forward_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2},
        **{"attention.key_length": head, "attention.value_length": head, "rope.dimension_count": head},
    }
    assert {key: found[f"{name}.{key}"] for key in expected} == expected
    assert isinstance(found[f"{name}.rope.freq_base"], float)
    assert isinstance(found[f"{name}.attention.layer_norm_rms_epsilon"], float)
    known = {value for value in vars(gguf.Keys.LLM).values() if isinstance(value, str)}
    known |= {value for part in ("Attention", "Rope") for value in vars(getattr(gguf.Keys, part)).values()}
    assert {key.replace(f"{name}.", "{arch}.", 1) for key in found if key != "general.architecture"} <= known


def test_rows_of_a_head_are_interleaved_in_the_llama_family_only() -> None:
    llama, qwen = architecture(told("llama")), architecture(told("qwen2"))
    rows = llama.rows("model.layers.1.self_attn.q_proj.weight", 32)
    assert rows is not None and rows[:8].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    rows = llama.rows("model.layers.0.self_attn.k_proj.bias", 16)
    assert rows is not None and rows[8:].tolist() == [8, 12, 9, 13, 10, 14, 11, 15]
    assert llama.rows("model.layers.0.self_attn.v_proj.weight", 16) is None
    assert llama.rows("model.norm.weight", 32) is None
    assert qwen.rows("model.layers.1.self_attn.q_proj.weight", 32) is None


def test_rotation_of_neighbours_in_the_other_order_is_the_rotation_of_halves() -> None:
    """What the order of rows is for: q^T k is the same under both rotations."""
    generator = np.random.default_rng(0)
    q, k = generator.standard_normal((2, 8))
    angles = 3.0 * 10000.0 ** (-np.arange(0, 8, 2) / 8)

    def halves(x: np.ndarray, turn: np.ndarray) -> np.ndarray:
        a, b = x[:4], x[4:]
        return np.concatenate([a * np.cos(turn) - b * np.sin(turn), b * np.cos(turn) + a * np.sin(turn)])

    def neighbours(x: np.ndarray, turn: np.ndarray) -> np.ndarray:
        a, b = x[0::2], x[1::2]
        return np.stack([a * np.cos(turn) - b * np.sin(turn), b * np.cos(turn) + a * np.sin(turn)], 1).reshape(-1)

    config = told("llama", num_attention_heads=1, num_key_value_heads=1, head_dim=8)
    rows = architecture(config).rows("model.layers.0.self_attn.q_proj.weight", 8)
    here = halves(q, angles) @ halves(k, 5 * angles)
    assert neighbours(q[rows], angles) @ neighbours(k[rows], 5 * angles) == pytest.approx(here)


def test_llama_3_s_positions_become_factors_of_their_frequencies() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 64}
    config = told("llama", head_dim=32, rope_parameters=rope)
    found = architecture(config)
    ours = LlamaConfig(head_dim=32, num_attention_heads=4, hidden_size=128, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](ours, "cpu")
    plain = 5e5 ** (-torch.arange(0, 32, 2) / 32)
    assert found.rope_factors is not None and found.rope_factors.dtype == np.float32
    torch.testing.assert_close(plain / torch.from_numpy(found.rope_factors), scaled)
    assert len(set(found.rope_factors.tolist())) > 2


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default", "rope_theta": 7.0}, {"freq_base": 7.0}),
        ({"type": "linear", "factor": 2}, {"scaling.type": "linear", "scaling.factor": 2.0, "freq_base": 10000.0}),
        (
            {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6, "original_max_position_embeddings": 64},
            {"scaling.type": "yarn", "scaling.original_context_length": 64, "freq_base": 1e6},
        ),
    ],
)
def test_scaled_positions_are_told(rope: dict[str, Any], expected: dict[str, Any]) -> None:
    found = keys(told("qwen2", rope_parameters=rope))
    assert {key: found[f"qwen2.rope.{key}"] for key in expected} == expected


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("opt", {}, "model_type 'opt' has no GGUF export here; there are llama, mistral, qwen2, qwen3"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "positions of type 'dynamic'"),
        ("qwen2", {"rope_parameters": {"rope_type": "llama3"}}, "positions of type 'llama3'"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "on a part of each head"),
    ],
)
def test_what_llama_cpp_does_otherwise_is_refused(family: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        architecture(told(family, **changes))


def test_a_window_that_llama_cpp_does_not_have_is_told() -> None:
    assert architecture(told("mistral")).notes == ("llama.cpp attends beyond this model's sliding window of 8 tokens",)
    assert architecture(told("mistral", sliding_window=None)).notes == ()
    assert architecture(told("qwen2", use_sliding_window=False)).notes == ()
