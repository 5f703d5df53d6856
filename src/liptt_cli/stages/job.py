"""What a stage gets to work with, and the files by which the stages hand on to each other."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor

from liptt_cli.forms.base import Form
from liptt_cli.forms.read import form_from_json
from liptt_cli.menu.run import WINDOW_TOKENS, RunConfig
from liptt_cli.models.blocks import Structure
from liptt_cli.models.hub import Source, compute_dtype, read_config
from liptt_cli.models.shards import Shards
from liptt_cli.planning.tables import TableShape
from liptt_cli.run_directory import RunDirectory

OUTSIDE = "outside.safetensors"
GRADIENTS = "gradients.safetensors"


@runtime_checkable
class Reporter(Protocol):
    """Where progress goes: a bar with an ETA on a terminal, plain lines elsewhere."""

    def begin(self, title: str, *, total: int) -> None:
        """Start a piece of work of `total` steps."""
        ...

    def advance(self, message: str = "") -> None:
        """Finish a step; the message tells what came of it."""
        ...


@dataclass(frozen=True)
class Job:
    """A run in progress."""

    config: RunConfig
    run: RunDirectory
    source: Source
    near: Path | None
    reporter: Reporter

    @cached_property
    def structure(self) -> Structure:
        """Return the blocks and the selected linears, as the load stage found them."""
        return Structure.from_json(self.run.facts("load")["structure"])

    @property
    def tables(self) -> tuple[TableShape, ...]:
        """Return embedding and head, as the load stage found them; none if they stay as they are."""
        found = self.run.facts("load").get("tables", [])
        return tuple(TableShape(**{**table, "shape": tuple(table["shape"])}) for table in found)

    @cached_property
    def forms(self) -> dict[str, Form]:
        """Return the form of each linear, as the decompose stage decided."""
        forms: Mapping[str, Mapping[str, object]] = self.run.facts("decompose")["forms"]
        return {name: form_from_json(form) for name, form in forms.items()}

    @cached_property
    def windows(self) -> Int[Tensor, "windows tokens"]:
        """Return the calibration windows."""
        return load_file(self.run.stage("load") / "windows.safetensors")["ids"].long()

    @cached_property
    def gradient_squares(self) -> dict[str, Tensor]:
        """Return the mean squared gradient of each linear's outputs; empty if nothing asked for them."""
        path = self.run.stage("decompose") / GRADIENTS
        return load_file(path) if path.exists() else {}

    @cached_property
    def dtype(self) -> torch.dtype:
        """Return the dtype of computation."""
        shards = Shards(self.source.path)
        return compute_dtype(self.config.load.dtype, stored=shards.main_dtype(), parameters=shards.parameters())

    def window_tokens(self, stage: Literal["calibration", "evaluate"]) -> int:
        """Return the tokens of a stage's windows: as asked for, else 2048 or as many as the model has positions."""
        asked: int | None = getattr(self.config, stage).window_tokens
        return asked or min(WINDOW_TOKENS, self.positions or WINDOW_TOKENS)

    @cached_property
    def positions(self) -> int | None:
        """Return how many positions the model has, None if its `config.json` does not say."""
        config = read_config(self.source, self.config.load.trust_remote_code)
        return getattr(config.get_text_config(), "max_position_embeddings", None)

    def block_files(self, stage: str) -> list[Path]:
        """Return the files that a stage left of blocks, in order, and last what it left outside of them."""
        folder = self.run.stage(stage)
        outside = folder / OUTSIDE
        return sorted(folder.glob("block-*.safetensors")) + ([outside] if outside.exists() else [])

    def result_files(self) -> list[Path]:
        """Return all files that make up the compressed model; later ones override."""
        return self.block_files("binarize") + self.block_files("finetune")

    def generator(self, name: str) -> torch.Generator:
        """Return the random numbers of one linear: a function of the run's seed and its name."""
        digest = hashlib.sha256(f"{self.config.seed}:{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def block_file(folder: Path, block: int) -> Path:
    """Return the name of a block's file."""
    return folder / f"block-{block:03d}.safetensors"


def names_under(prefix: str, names: Sequence[str]) -> list[str]:
    """Return the names inside a module, without its own."""
    return [name.removeprefix(f"{prefix}.") for name in names if name.startswith(f"{prefix}.")]
