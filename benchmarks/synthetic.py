"""A synthetic Llama as a directory: random weights, dense, and packed with random codes, without a fit.

8 blocks, hidden 2048, feed-forward 5632, 16 heads, vocabulary 4096: 411 million weights in linears. What it says is
noise; its speed is that of a real model of these shapes.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from liptt_cli.formats.base import Encoded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.packing.artifact import write_packed
from liptt_cli.packing.blob import pack
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.packing.whole import whole_directory

GROUP_COLUMNS = 128
SCALE = 0.02
RANK_STEP = 8
ISSUE_SHAPE = {
    "num_hidden_layers": 8,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 4096,
}

Made = Callable[[int, int, torch.Generator], Encoded]


def write_dense(directory: Path, shape: dict[str, int]) -> Path:
    """Write the dense model in bfloat16, unless it is there."""
    if not directory.exists():
        config = LlamaConfig(**shape, max_position_embeddings=2048, tie_word_embeddings=False)
        with torch.random.fork_rng(), whole_directory(directory) as partial:
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(partial)
    return directory


def write_codes(directory: Path, *, dense: Path, made: Made) -> Path:
    """Write the packed model of the dense one's shapes, unless it is there."""
    if not directory.exists():
        with whole_directory(directory) as partial:
            blocks = directory.with_name(directory.name + "-codes.safetensors")
            _write_blobs(blocks, dense / "config.json", made)
            overlay, source = Overlay.read([blocks]), sorted(dense.glob("*.safetensors"))
            origin = Origin(str(dense.resolve()), None, "sign", "0" * 64, dtype="bfloat16")
            write_packed(partial, source=source, overlay=overlay, origin=origin, shard_bytes=5 * 10**9)
            blocks.unlink()
    return directory


def sign(rows: int, columns: int, generator: torch.Generator) -> Encoded:
    """Return random signs under a scale for each row and 128 columns."""
    scales = torch.full((1, 1, rows, -(-columns // GROUP_COLUMNS)), SCALE)
    return Grid(_signs(rows, columns, generator), Envelope(scales, None, GROUP_COLUMNS)).settled()


def two_factor(bits_per_weight: float) -> Made:
    """Return a maker of two random sign matrices between three vectors of scales, of so many bits, scales included."""

    def make(rows: int, columns: int, generator: torch.Generator) -> Encoded:
        budget = bits_per_weight * rows * columns - 16 * (rows + columns)
        rank = int(budget / (rows + columns + 16)) // RANK_STEP * RANK_STEP
        cores = (Grid(_signs(rows, rank, generator)), Grid(_signs(rank, columns, generator)))
        scales = tuple(torch.full((length,), (SCALE / rank**0.5) ** (1 / 3)) for length in (rows, rank, columns))
        return Chain(cores, scales, (rows, columns), (rows, 1), (1, columns)).settled()

    return make


def _signs(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, (1, rows, columns), dtype=torch.uint8, generator=generator)


def _write_blobs(file: Path, config: Path, made: Made) -> None:
    facts = json.loads(config.read_text(encoding="utf8"))
    hidden, inner = facts["hidden_size"], facts["intermediate_size"]
    width = facts.get("head_dim") or hidden // facts["num_attention_heads"]
    queries, keys = facts["num_attention_heads"] * width, facts["num_key_value_heads"] * width
    shapes = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    generator = torch.Generator().manual_seed(1)
    tensors, forms = {}, {}
    for block in range(facts["num_hidden_layers"]):
        for name, shape in shapes.items():
            value, full = made(*shape, generator), f"model.layers.{block}.{name}"
            tensors[f"{full}.weight"], forms[full] = pack(value), value.form.to_json()
    save_file(tensors, file, metadata={"forms": json.dumps(forms)})
