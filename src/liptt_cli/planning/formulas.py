"""The shape of a model from its `config.json` alone, for the families whose formula is known.

Each number is that of the file that `save_pretrained` writes: tied tables once, biases and norms as a family has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from liptt_cli.errors import ModelError
from liptt_cli.planning.sites import ModelShape, SiteShape, in_order

Config = Mapping[str, Any]
Linears = Mapping[str, tuple[int, int]]

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_QWEN3_HEAD = 128  # where config.json does not say


def shape_from_config(config: Config) -> ModelShape:
    """Compute the shape of a model.

    Raises:
        ModelError: if the family is not among the known ones, or a key is missing or strange.
    """
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ModelError(
            f'model_type "{family}" has no formula here (known: {", ".join(_FAMILIES)}); '
            "download the model first, then the weight files' headers tell its linears"
        )
    try:
        return _FAMILIES[family](config)
    except (KeyError, TypeError) as error:
        raise ModelError(f"config.json of a {family} model: {error} is missing or strange; fetch it again") from error


@dataclass(frozen=True)
class _Rest:
    """The lengths of all tensors that are no linear of a block: in each block, and outside of them."""

    biases: list[int]
    norms: list[int]
    tables: list[int]
    last_norms: list[int]


def _llama_like(config: Config) -> ModelShape:
    width, heads, family = config["hidden_size"], config["num_attention_heads"], config["model_type"]
    head = config.get("head_dim") or (_QWEN3_HEAD if family == "qwen3" else width // heads)
    queries, keys = heads * head, (config.get("num_key_value_heads") or heads) * head
    inner = config["intermediate_size"]
    linears = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    rest = _Rest(
        biases=[linears[name][0] for name in _llama_biases(config)],
        norms=[width, width] + ([head, head] if family == "qwen3" else []),
        tables=[config["vocab_size"] * width] * (1 if config.get("tie_word_embeddings") else 2),
        last_norms=[width],
    )
    return _assembled(config, "model.layers", linears, rest=rest)


def _llama_biases(config: Config) -> list[str]:
    """Return the linears with a bias: fixed in Qwen2 and Mistral, an option in Llama and Qwen3."""
    family, attention = config["model_type"], ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    if family == "qwen2":
        return attention
    if family == "mistral":
        return []
    mlp = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] if family == "llama" and config.get("mlp_bias") else []
    return ([*attention, "self_attn.o_proj"] if config.get("attention_bias") else []) + mlp


def _opt(config: Config) -> ModelShape:
    width, inner = config["hidden_size"], config["ffn_dim"]
    attention = {f"self_attn.{leaf}": (width, width) for leaf in ("q_proj", "k_proj", "v_proj", "out_proj")}
    linears = {**attention, "fc1": (inner, width), "fc2": (width, inner)}
    narrow = config.get("word_embed_proj_dim") or width
    words, positions = config["vocab_size"] * narrow, (config["max_position_embeddings"] + 2) * width
    affine, biased = config.get("layer_norm_elementwise_affine", True), config.get("enable_bias", True)
    ends = config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm")
    rest = _Rest(
        biases=[rows for rows, _ in linears.values()] if biased else [],
        norms=[width] * 4 if affine else [],
        tables=[words] * (1 if config.get("tie_word_embeddings", True) else 2)
        + [positions]
        + ([narrow * width] * 2 if narrow != width else []),
        last_norms=[width] * 2 if affine and ends else [],
    )
    return _assembled(config, "model.decoder.layers", linears, rest=rest)


def _assembled(config: Config, path: str, linears: Linears, *, rest: _Rest) -> ModelShape:
    blocks = config["num_hidden_layers"]
    width = _DTYPE_BYTES[str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")]
    sites = [SiteShape(f"{path}.{b}.{leaf}", b, shape) for b in range(blocks) for leaf, shape in linears.items()]
    inside, outside = rest.biases + rest.norms, rest.tables + rest.last_norms
    return ModelShape(
        in_order(sites),
        other_bytes=width * (blocks * sum(inside) + sum(outside)),
        other_tensors=blocks * len(inside) + len(outside),
        norm_entries=blocks * sum(rest.norms) + sum(rest.last_norms),
        site_dtype_bytes=width,
    )


_FAMILIES: dict[str, Callable[[Config], ModelShape]] = {
    "llama": _llama_like,
    "mistral": _llama_like,
    "qwen2": _llama_like,
    "qwen3": _llama_like,
    "opt": _opt,
}
