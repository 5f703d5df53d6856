"""How tests open a packed model, and make the job of a GGUF file of it."""

from pathlib import Path
from typing import Any

from liptt_cli.exports.carrying import GgufType, TableType, gguf_carried
from liptt_cli.exports.gguf_file import GgufJob
from liptt_cli.exports.gguf_model import architecture
from liptt_cli.exports.gguf_vocabulary import vocabulary
from liptt_cli.exports.packed_model import PackedModel
from liptt_cli.packing.artifact import verify_files

NO_WINDOW: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 64, "attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": None},
    "qwen2": {"use_sliding_window": False, "layer_types": ["full_attention"] * 2, "sliding_window": None},
    "qwen3": {"head_dim": 128},
}


def opened(directory: Path) -> PackedModel:
    """Return a packed model as the exports read it."""
    return PackedModel(directory, verify_files(directory))


def job_of(directory: Path, *, wanted: GgufType | None = None, tables: TableType = "F32") -> GgufJob:
    """Return the job of a GGUF file."""
    model = opened(directory)
    carried = {name: gguf_carried(form, wanted) for name, form in model.forms.items()}
    words = tuple(vocabulary(directory, rows=model.config["vocab_size"]))
    return GgufJob(model, architecture(model.config), words, carried, tables)
