"""Which models the lean loop runs, and why not the others.

Llama, Mistral, Qwen2 and Qwen3 of transformers: root-mean-square norms, rotary positions, grouped heads, a gated
feed-forward with SiLU, and, where the family has them, biases, norms of queries and keys, and a sliding window.
A model is looked at by its modules as well as by its configuration: what is not known is refused, never guessed.
"""

from typing import Any

from torch import nn

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
KINDS_OF_ATTENTION = ("full_attention", "sliding_attention")
_BLOCK = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_HEAD_NORMS = {"q_norm", "k_norm"}
_FEED_FORWARD = {"gate_proj", "up_proj", "down_proj"}


def why_not(model: Any) -> str | None:
    """Return why the lean loop does not run this model, None if it does."""
    config = model.config
    family = getattr(config, "model_type", "unknown")
    if family not in FAMILIES:
        return f"architecture {family!r} is not one of {', '.join(FAMILIES)}"
    if not type(model).__module__.startswith("transformers.models."):
        return "its code is not that of transformers"
    return _strange_rotary(config) or _strange_block(model, config) or _strange_place(model)


def window_tokens(config: Any, block: int) -> int | None:
    """Return how many tokens a block's attention looks back over, itself included; None: over all."""
    if config.model_type == "mistral":
        return int(config.sliding_window) if config.sliding_window else None
    kinds = getattr(config, "layer_types", None)
    if kinds is None or kinds[block] == "full_attention":
        return None
    return int(config.sliding_window)


def _strange_rotary(config: Any) -> str | None:
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if "dynamic" in kind or kind == "longrope":
        return f"rotary positions of kind {kind!r} change with the length of the text"
    return None


def _strange_block(model: Any, config: Any) -> str | None:
    if config.hidden_act not in ("silu", "swish"):
        return f"hidden_act is {config.hidden_act!r}, only silu is known"
    strange = set(getattr(config, "layer_types", None) or ()) - set(KINDS_OF_ATTENTION)
    if strange:
        return f"attention of kind {', '.join(sorted(strange))} is not known"
    for number, block in enumerate(model.model.layers):
        if not (_has(block, _BLOCK) and _has(block.self_attn, _ATTENTION, _HEAD_NORMS) and _feeds(block.mlp)):
            return f"block {number} holds other modules than the family's own"
    return None


def _feeds(mlp: nn.Module) -> bool:
    return _has(mlp, _FEED_FORWARD, {"act_fn"})


def _has(module: nn.Module, wanted: set[str], others: frozenset[str] | set[str] = frozenset()) -> bool:
    found = {name for name, _ in module.named_children()}
    return wanted <= found <= wanted | others


def _strange_place(model: Any) -> str | None:
    places = {parameter.device for parameter in model.parameters()}
    if any(place.type == "meta" for place in places) or any(hasattr(part, "_hf_hook") for part in model.modules()):
        return "it is offloaded"
    return f"it lies on several devices: {', '.join(sorted(map(str, places)))}" if len(places) > 1 else None
