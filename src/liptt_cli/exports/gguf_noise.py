"""A GGUF file of a model's shapes with weights by chance: for measuring the speed of a type, and for nothing else.

The layout is that of version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): magic, counts, keys with
typed values, one entry a tensor, then the data, each tensor at a multiple of 32 bytes. It is written here by hand so
that nothing but llama.cpp itself has to be installed. Embedding and head are float16, both there also where
a model ties them, norms float32; a block's bytes
are by chance but for its float16 scale, which is small and finite. There is no vocabulary.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from liptt_cli.exports.gguf_entries import Entry, Value
from liptt_cli.exports.gguf_model import architecture

_ALIGNMENT = 32
_VERSION = 3
_SCALE = np.float16(0.01)
_UINT32, _FLOAT32, _BOOL, _STRING = 4, 6, 7, 8
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Type:
    """A type of ggml: its number, how many columns and bytes a block has, and where in it the float16 scale lies."""

    number: int
    columns: int
    bytes: int
    scale_at: int | None

    def size(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a tensor."""
        return int(np.prod(shape)) // self.columns * self.bytes


TYPES = {
    "F32": Type(0, 1, 4, None),
    "F16": Type(1, 1, 2, None),
    "Q4_0": Type(2, 32, 18, 0),
    "TQ2_0": Type(35, 256, 66, 64),
    "Q1_0": Type(41, 128, 18, 0),
}


def write_noise(path: Path, config: Mapping[str, Any], kind: str) -> None:
    """Write a model of these shapes, its linears of one type.

    Args:
        path: where to.
        config: what `config.json` says.
        kind: a name in `TYPES`.

    Raises:
        ModelError: if llama.cpp has no such family.
    """
    told = architecture(config)
    entries = [*told.entries, Entry("general.file_type", 0), Entry("tokenizer.ggml.model", "no_vocab")]
    tensors = [(name, shape, TYPES[kind] if is_linear else _table(shape)) for name, shape, is_linear in _shapes(config)]
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(entries)))
        for entry in entries:
            file.write(_text(entry.key) + _value(entry.value))
        offset = 0
        for name, shape, type_ in tensors:
            dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
            file.write(_text(name) + dimensions + struct.pack("<IQ", type_.number, offset))
            offset += _aligned(type_.size(shape))
        file.write(b"\0" * (_aligned(file.tell()) - file.tell()))
        generator = np.random.default_rng(0)
        for _, shape, type_ in tensors:
            _write_numbers(file, type_, type_.size(shape), generator)


def why_not(config: Mapping[str, Any], kind: str) -> str | None:
    """Return why a type cannot hold linears of these shapes, None if it can."""
    columns = {shape[1] for _, shape, is_linear in _shapes(config) if is_linear}
    odd = sorted(length for length in columns if length % TYPES[kind].columns)
    return f"{odd[0]} columns are no multiple of its blocks of {TYPES[kind].columns}" if odd else None


def _shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Yield name, shape (rows first), and whether it is a linear of a block."""
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    width = config.get("head_dim") or hidden // heads
    keys = (config.get("num_key_value_heads") or heads) * width
    queries = heads * width
    qwen2, qwen3 = config["model_type"] == "qwen2", config["model_type"] == "qwen3"
    yield "token_embd.weight", (config["vocab_size"], hidden), False
    for block in range(config["num_hidden_layers"]):
        inside = f"blk.{block}."
        for name, rows, columns in (
            ("attn_q", queries, hidden),
            ("attn_k", keys, hidden),
            ("attn_v", keys, hidden),
            ("attn_output", hidden, queries),
            ("ffn_gate", inner, hidden),
            ("ffn_up", inner, hidden),
            ("ffn_down", hidden, inner),
        ):
            yield f"{inside}{name}.weight", (rows, columns), True
            if qwen2 and name in ("attn_q", "attn_k", "attn_v"):
                yield f"{inside}{name}.bias", (rows,), False
        yield f"{inside}attn_norm.weight", (hidden,), False
        yield f"{inside}ffn_norm.weight", (hidden,), False
        if qwen3:
            yield f"{inside}attn_q_norm.weight", (width,), False
            yield f"{inside}attn_k_norm.weight", (width,), False
    yield "output_norm.weight", (hidden,), False
    yield "output.weight", (config["vocab_size"], hidden), False


def _table(shape: tuple[int, ...]) -> Type:
    return TYPES["F32" if len(shape) == 1 else "F16"]


def _write_numbers(file: IO[bytes], type_: Type, size: int, generator: np.random.Generator) -> None:
    """Write one tensor, some blocks at a time."""
    step = max(1, _CHUNK_BYTES // type_.bytes) * type_.bytes
    for start in range(0, size, step):
        file.write(_numbers(type_, min(step, size - start), generator))
    file.write(b"\0" * (_aligned(size) - size))


def _numbers(type_: Type, size: int, generator: np.random.Generator) -> bytes:
    if type_.number == TYPES["F32"].number:
        return np.ones(size // 4, dtype=np.float32).tobytes()
    if type_.scale_at is None:
        numbers = generator.standard_normal(size // 2, dtype=np.float32) * np.float32(2 * _SCALE)
        return numbers.astype(np.float16).tobytes()
    blocks = generator.integers(0, 256, (size // type_.bytes, type_.bytes), dtype=np.uint8)
    blocks[:, type_.scale_at : type_.scale_at + 2] = np.frombuffer(_SCALE.tobytes(), dtype=np.uint8)
    return blocks.tobytes()


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    raise TypeError(f"no list is written here: {value!r}")


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
