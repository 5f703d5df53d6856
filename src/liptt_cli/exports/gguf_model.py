"""A model's `config.json` and tensor names as llama.cpp's: keys, names, the order of rows.

Four families, which share one block. In `llama` (Llama and Mistral) rotary positions turn neighbouring rows of a head
there, and rows half a head apart here, so the rows of q and k are put in that order; `qwen2` and `qwen3` keep ours.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from liptt_cli.errors import ModelError
from liptt_cli.exports.gguf_entries import Entry

Config = Mapping[str, Any]

_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_OUTSIDE = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_INSIDE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NAME = re.compile(r"(?:model\.)?(?:layers\.(?P<block>\d+)\.)?(?P<module>[\w.]+)\.(?P<leaf>weight|bias)")
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True)
class Architecture:
    """What llama.cpp is told of a model besides its tensors and its tokenizer."""

    name: str
    entries: tuple[Entry, ...]
    heads: Mapping[str, int]  # heads of the linears whose rows are put in another order
    rope_factors: Float[np.ndarray, " half_head"] | None
    notes: tuple[str, ...]

    def rows(self, name: str, count: int) -> Int[np.ndarray, " rows"] | None:
        """Return which row of ours is each row of llama.cpp's, None if the order is ours."""
        match = _NAME.fullmatch(name)
        heads = self.heads.get(match["module"]) if match and match["block"] else None
        return None if heads is None else np.arange(count).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)


def architecture(config: Config) -> Architecture:
    """Return what llama.cpp is told of a model.

    Raises:
        ModelError: if it is of another family, or does something that llama.cpp's family does not.
    """
    family = config.get("model_type")
    if family not in _ARCHITECTURES:
        raise ModelError(f"model_type {family!r} has no GGUF export here; there are {', '.join(_ARCHITECTURES)}")
    _refuse_other(config)
    name = _ARCHITECTURES[family]
    heads = config["num_attention_heads"]
    permuted = {"self_attn.q_proj": heads, "self_attn.k_proj": _key_heads(config)} if name == "llama" else {}
    positions, factors = _positions(config, name)
    entries = [Entry("general.architecture", name), *_sizes(config, name), *positions]
    return Architecture(name, tuple(entries), permuted, factors, _notes(config))


def gguf_name(name: str) -> str | None:
    """Return llama.cpp's name of a tensor, None for what it computes itself.

    Raises:
        ModelError: if there is none.
    """
    match = _NAME.fullmatch(name)
    if match is None and name.endswith("rotary_emb.inv_freq"):
        return None
    known = (_INSIDE if match["block"] else _OUTSIDE) if match else {}
    if match is None or match["module"] not in known:
        raise ModelError(f"tensor {name} has no name in GGUF's llama and qwen families")
    block = f"blk.{match['block']}." if match["block"] else ""
    return f"{block}{known[match['module']]}.{match['leaf']}"


def _sizes(config: Config, name: str) -> list[Entry]:
    head = _head(config)
    counts = {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": _key_heads(config),
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": head,
    }
    entries = [Entry(f"{name}.{key}", int(value)) for key, value in counts.items()]
    return [*entries, Entry(f"{name}.attention.layer_norm_rms_epsilon", float(config["rms_norm_eps"]))]


def _positions(config: Config, name: str) -> tuple[list[Entry], Float[np.ndarray, " half_head"] | None]:
    """Return the keys of rotary positions, and the factors of their frequencies if there are some."""
    told = _rope(config)
    theta = float(told.get("rope_theta") or config.get("rope_theta") or 10000.0)
    entries = [Entry(f"{name}.rope.freq_base", theta)]
    kind = told.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        entries += [
            Entry(f"{name}.rope.scaling.type", kind),
            Entry(f"{name}.rope.scaling.factor", float(told["factor"])),
        ]
        if kind == "yarn":
            longest = told.get("original_max_position_embeddings") or config["max_position_embeddings"]
            entries.append(Entry(f"{name}.rope.scaling.original_context_length", int(longest)))
        return entries, None
    return entries, _llama3_factors({**_LLAMA3, **told}, theta, _head(config)) if kind == "llama3" else None


def _llama3_factors(told: Config, theta: float, head: int) -> Float[np.ndarray, " half_head"]:
    """Return by how much each frequency is slowed: not at all if short, by `factor` if long, in between if between."""
    low, high, factor = (float(told[key]) for key in ("low_freq_factor", "high_freq_factor", "factor"))
    turns = told["original_max_position_embeddings"] / (2 * math.pi) * theta ** (-np.arange(0, head, 2) / head)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(1 / ((1 - smooth) / factor + smooth), dtype=np.float32)


def _refuse_other(config: Config) -> None:
    family, told = config["model_type"], _rope(config)
    kind = told.get("rope_type", "default")
    known = ("default", "linear", "yarn", "llama3") if family == "llama" else ("default", "linear", "yarn")
    biased = family == "qwen3" and config.get("attention_bias")
    faults = [
        (config.get("hidden_act", "silu") != "silu", f"hidden_act {config.get('hidden_act')!r}"),
        (kind not in known, f"rotary positions of type {kind!r}"),
        (told.get("partial_rotary_factor", 1) != 1, "rotary positions on a part of each head"),
        (any(told.get(key) is not None for key in ("attention_factor", "beta_fast", "beta_slow")), "yarn with options"),
        (bool(biased), "attention_bias"),
    ]
    for wrong, what in faults:
        if wrong:
            raise ModelError(f"config.json of this {family} model has {what}, which llama.cpp's family does not do")


def _notes(config: Config) -> tuple[str, ...]:
    window = config.get("sliding_window")
    slides = (
        window is not None and config.get("use_sliding_window", True) and window < config["max_position_embeddings"]
    )
    return (f"llama.cpp attends beyond this model's sliding window of {window} tokens",) if slides else ()


def _rope(config: Config) -> Config:
    found: Config = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = found.get("rope_type") or found.get("type") or "default"
    return {**found, "rope_type": kind}


def _head(config: Config) -> int:
    default = 128 if config["model_type"] == "qwen3" else config["hidden_size"] // config["num_attention_heads"]
    return int(config.get("head_dim") or default)


def _key_heads(config: Config) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])
