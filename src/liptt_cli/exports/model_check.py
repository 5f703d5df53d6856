"""Whether a target knows a model's family and tokenizer, and its package is there; told before a compression."""

import json
from pathlib import Path

from liptt_cli.exports.gguf_model import architecture
from liptt_cli.exports.gguf_vocabulary import vocabulary
from liptt_cli.exports.preflight import require_package
from liptt_cli.menu.run import RunConfig


def refuse_model(config: RunConfig, directory: Path) -> None:
    """Refuse a model that a target of the configuration cannot be told of.

    Raises:
        MissingExtra: if the target's package is not installed.
        ModelError: if llama.cpp has no equal of the family or the tokenizer.
    """
    for name in config.export.to:
        require_package(name)
    if "gguf" in config.export.to:
        said = json.loads((directory / "config.json").read_bytes())
        architecture(said)
        vocabulary(directory, rows=said["vocab_size"])
