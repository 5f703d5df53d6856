"""The shape of a model from its `config.json` alone, for the families whose formula is known.

Each number is that of the file that `save_pretrained` writes: tied tables once, biases and norms as a family has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from liptt_cli.errors import ModelError
from liptt_cli.planning.coverage import named
from liptt_cli.planning.experts import GATED, MIXTRAL, Leaves
from liptt_cli.planning.sites import ModelShape, SiteShape, in_order
from liptt_cli.planning.tables import TableShape

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
    """The lengths of all tensors that are no linear of a block: in each block, and outside of them.

    `tables` are embedding and head, `others` what else is outside of the blocks; `matrices` are a block's own that no
    compression touches.
    """

    biases: list[int]
    norms: list[int]
    tables: dict[str, tuple[int, int]]
    last_norms: list[int]
    others: list[int] = field(default_factory=list)
    matrices: dict[str, int] = field(default_factory=dict)


def _llama_like(config: Config) -> ModelShape:
    width, heads, family = config["hidden_size"], config["num_attention_heads"], config["model_type"]
    head = config.get("head_dim") or (_QWEN3_HEAD if family == "qwen3" else width // heads)
    queries, keys = heads * head, (config.get("num_key_value_heads") or heads) * head
    linears = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        **(_experts(config) if family in _MIXTURES else _gated("mlp", GATED, (config["intermediate_size"], width))),
    }
    rest = _Rest(
        biases=[linears[name][0] for name in _llama_biases(config)],
        norms=[width, width] + ([head, head] if family in ("qwen3", "qwen3_moe") else []),
        tables=_tables(config, "model.embed_tokens", (config["vocab_size"], width), tied=False),
        last_norms=[width],
        matrices={"mlp.gate": _count(config) * width} if family in _MIXTURES else {},
    )
    return _assembled(config, "model.layers", linears, rest=rest)


def _experts(config: Config) -> Linears:
    """Return the linears of all experts of a block.

    Raises:
        ModelError: if some blocks have experts and some have not.
    """
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise ModelError(
            f"a {config['model_type']} model with experts in some blocks only has no formula here; "
            "download the model first, then the weight files' headers tell its linears"
        )
    key, leaves = _MIXTURES[config["model_type"]]
    shape = (config[key], config["hidden_size"])
    found: dict[str, tuple[int, int]] = {}
    for number in range(_count(config)):
        found |= _gated(f"mlp.experts.{number}", leaves, shape)
    return found


def _count(config: Config) -> int:
    count: int = config["num_experts"] if "num_experts" in config else config["num_local_experts"]
    return count


def _gated(prefix: str, leaves: Leaves, shape: tuple[int, int]) -> Linears:
    """Return gate and up of that shape, and down of its transpose."""
    gate, up, down = (f"{prefix}.{leaf}" for leaf in leaves)
    return {gate: shape, up: shape, down: shape[::-1]}


def _llama_biases(config: Config) -> list[str]:
    """Return the linears with a bias: fixed in Qwen2, Mistral and Mixtral, an option in Llama and Qwen3."""
    family, attention = config["model_type"], ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    if family == "qwen2":
        return attention
    if family in ("mistral", "mixtral"):
        return []
    mlp = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"] if family == "llama" and config.get("mlp_bias") else []
    return ([*attention, "self_attn.o_proj"] if config.get("attention_bias") else []) + mlp


def _opt(config: Config) -> ModelShape:
    width, inner = config["hidden_size"], config["ffn_dim"]
    attention = {f"self_attn.{leaf}": (width, width) for leaf in ("q_proj", "k_proj", "v_proj", "out_proj")}
    linears = {**attention, "fc1": (inner, width), "fc2": (width, inner)}
    narrow = config.get("word_embed_proj_dim") or width
    positions = (config["max_position_embeddings"] + 2) * width
    affine, biased = config.get("layer_norm_elementwise_affine", True), config.get("enable_bias", True)
    ends = config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm")
    rest = _Rest(
        biases=[rows for rows, _ in linears.values()] if biased else [],
        norms=[width] * 4 if affine else [],
        tables=_tables(config, "model.decoder.embed_tokens", (config["vocab_size"], narrow), tied=True),
        last_norms=[width] * 2 if affine and ends else [],
        others=[positions] + ([narrow * width] * 2 if narrow != width else []),
    )
    return _assembled(config, "model.decoder.layers", linears, rest=rest)


def _tables(config: Config, embedding: str, shape: tuple[int, int], *, tied: bool) -> dict[str, tuple[int, int]]:
    """Return embedding and head, one where they are tied; `tied` is the family's default."""
    names = [embedding] if config.get("tie_word_embeddings", tied) else [embedding, "lm_head"]
    return dict.fromkeys(sorted(names), shape)


def _assembled(config: Config, path: str, linears: Linears, *, rest: _Rest) -> ModelShape:
    blocks = config["num_hidden_layers"]
    width = _DTYPE_BYTES[str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")]
    sites = [SiteShape(f"{path}.{b}.{leaf}", b, shape) for b in range(blocks) for leaf, shape in linears.items()]
    tables = [TableShape(name, shape, width * shape[0] * shape[1]) for name, shape in rest.tables.items()]
    inside = rest.biases + rest.norms + list(rest.matrices.values())
    left_out = [(f"{path}.{b}.{name}", count) for b in range(blocks) for name, count in rest.matrices.items()]
    outside = [shape[0] * shape[1] for shape in rest.tables.values()] + rest.others + rest.last_norms
    return ModelShape(
        in_order(sites),
        other_bytes=width * (blocks * sum(inside) + sum(outside)),
        other_tensors=blocks * len(inside) + len(outside),
        norm_entries=blocks * sum(rest.norms) + sum(rest.last_norms),
        site_dtype_bytes=width,
        left_out=named(left_out),
        tables=tuple(tables),
    )


_MIXTURES = {  # what gives the inner width of an expert, and how files name its linears
    "mixtral": ("intermediate_size", MIXTRAL),
    "qwen3_moe": ("moe_intermediate_size", GATED),
}
_FAMILIES: dict[str, Callable[[Config], ModelShape]] = {
    "llama": _llama_like,
    "mistral": _llama_like,
    "qwen2": _llama_like,
    "qwen3": _llama_like,
    "mixtral": _llama_like,
    "qwen3_moe": _llama_like,
    "opt": _opt,
}
