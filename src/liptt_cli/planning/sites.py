"""Which linears a model has, without torch: from safetensors headers, else from `config.json`.

A site is one linear of one block. Headers are exact for any architecture; the formulas serve models whose
weights are not here yet.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from liptt_cli.errors import ConfigError, ModelError

Config = Mapping[str, Any]

_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1}
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_BLOCK_WEIGHT = re.compile(r"(?P<path>.+?)\.(?P<block>\d+)\.(?P<leaf>.+)\.weight")


@dataclass(frozen=True)
class SiteShape:
    """One linear: its full module name, its block, and the shape (out, in) of its weight."""

    name: str
    block: int
    shape: tuple[int, int]

    @property
    def weights(self) -> int:
        """Return the number of weights."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class ModelShape:
    """A model's linears, and the bytes of everything else in its weight files."""

    sites: tuple[SiteShape, ...]
    other_bytes: int
    other_tensors: int
    site_dtype_bytes: int

    @property
    def dense_bytes(self) -> int:
        """Return the bytes of all tensors as they stand in the source."""
        return self.other_bytes + self.site_dtype_bytes * sum(site.weights for site in self.sites)


def select(names: Sequence[str], *, include: Sequence[str], skip: Sequence[str]) -> frozenset[str]:
    """Return the names that a glob of `include` matches and none of `skip` does.

    Raises:
        ConfigError: if a glob matches nothing, which would be a silent mistake.
    """
    for key, globs in (("load.include", include), ("load.skip", skip)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                example = f"; a name looks like {names[0]}" if names else ""
                raise ConfigError(f'{key}: no linear matches "{glob}"{example}')
    return frozenset(
        name
        for name in names
        if any(fnmatchcase(name, glob) for glob in include) and not any(fnmatchcase(name, glob) for glob in skip)
    )


def model_shape(directory: Path) -> ModelShape:
    """Return the shape of the model in a directory, from its weight files or its `config.json`.

    Raises:
        ModelError: if neither tells it.
    """
    headers = read_headers(directory)
    if headers:
        return shape_from_headers(headers)
    path = directory / "config.json"
    if not path.exists():
        raise ModelError(f"{directory}: neither .safetensors files nor config.json; is this a model directory?")
    return shape_from_config(json.loads(path.read_text(encoding="utf8")))


def read_headers(directory: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return name -> (shape, dtype) of all tensors in the directory's safetensors files."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ModelError(f"{path}: its header claims {length} bytes, more than the file has; fetch it again")
            try:
                header = json.loads(file.read(length))
            except ValueError as error:
                raise ModelError(f"{path}: its header is not JSON ({error}); the file is corrupt") from error
        header.pop("__metadata__", None)
        found |= {name: (tuple(entry["shape"]), entry["dtype"]) for name, entry in header.items()}
    return found


def shape_from_headers(headers: Mapping[str, tuple[tuple[int, ...], str]]) -> ModelShape:
    """Find the block list as the numbered path that holds most weights, and its matrices as sites."""
    weights: Counter[str] = Counter()
    matches = {}
    for name, (shape, _) in headers.items():
        match = _BLOCK_WEIGHT.fullmatch(name)
        if match is not None and len(shape) == 2:
            weights[match["path"]] += shape[0] * shape[1]
            matches[name] = match
    if not weights:
        raise ModelError("no numbered list of blocks with matrices among the tensors; is this a transformer?")
    path = weights.most_common(1)[0][0]
    sites = [
        SiteShape(name.removesuffix(".weight"), int(match["block"]), (headers[name][0][0], headers[name][0][1]))
        for name, match in matches.items()
        if match["path"] == path
    ]
    names = {f"{site.name}.weight" for site in sites}
    others = [(shape, dtype) for name, (shape, dtype) in headers.items() if name not in names]
    site_bytes = _FLOAT_BYTES[headers[f"{sites[0].name}.weight"][1]]
    return ModelShape(_ordered(sites), sum(_bytes(*other) for other in others), len(others), site_bytes)


def shape_from_config(config: Config) -> ModelShape:
    """Compute the shape from `config.json` for the families whose formula is known.

    Raises:
        ModelError: if the family is not among them.
    """
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise ModelError(
            f'model_type "{family}" has no formula here (known: {", ".join(_FAMILIES)}); '
            "download the model first, then the weight files' headers tell its linears"
        )
    return _FAMILIES[family](config)


def _llama_like(config: Config) -> ModelShape:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
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
    biases = queries + 2 * keys if config["model_type"] == "qwen2" or config.get("attention_bias") else 0
    norms = 2 * width + (2 * head if config["model_type"] == "qwen3" else 0)
    tables = config["vocab_size"] * width * (1 if config.get("tie_word_embeddings") else 2)
    return _assembled(config, "model.layers", linears, per_block=(biases + norms, 9), rest=(tables + width, 3))


def _opt(config: Config) -> ModelShape:
    width, inner = config["hidden_size"], config["ffn_dim"]
    attention = {f"self_attn.{leaf}": (width, width) for leaf in ("q_proj", "k_proj", "v_proj", "out_proj")}
    linears = {**attention, "fc1": (inner, width), "fc2": (width, inner)}
    narrow = config.get("word_embed_proj_dim") or width
    tables = config["vocab_size"] * narrow + (config["max_position_embeddings"] + 2) * width
    projections = 2 * narrow * width if narrow != width else 0
    rest = (tables + projections + 2 * width, 4)
    return _assembled(config, "model.decoder.layers", linears, per_block=(9 * width + inner, 10), rest=rest)


def _assembled(
    config: Config,
    path: str,
    linears: Mapping[str, tuple[int, int]],
    *,
    per_block: tuple[int, int],
    rest: tuple[int, int],
) -> ModelShape:
    blocks = config["num_hidden_layers"]
    width = _DTYPE_BYTES[str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")]
    sites = [SiteShape(f"{path}.{b}.{leaf}", b, shape) for b in range(blocks) for leaf, shape in linears.items()]
    other = width * (blocks * per_block[0] + rest[0])
    return ModelShape(_ordered(sites), other, blocks * per_block[1] + rest[1], width)


_FAMILIES: dict[str, Callable[[Config], ModelShape]] = {
    "llama": _llama_like,
    "mistral": _llama_like,
    "qwen2": _llama_like,
    "qwen3": _llama_like,
    "opt": _opt,
}


def _ordered(sites: Sequence[SiteShape]) -> tuple[SiteShape, ...]:
    return tuple(sorted(sites, key=lambda site: (site.block, site.name)))


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    product = _FLOAT_BYTES[dtype]
    for length in shape:
        product *= length
    return product
