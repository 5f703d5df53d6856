"""Two streams of hidden states on disk: what enters a block in the dense model, and in the compressed one.

`clean` flows through dense blocks, `prefix` through compressed ones; before the first block they are one.
Block b's streams may go only after block b is written, so that a kill at any instant loses one block's work.
"""

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from liptt_cli.run_directory import write_file

Name = Literal["clean", "prefix"]
Hidden = Float[Tensor, "windows tokens width"]


class Streams:
    """The streams of a run, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def read(self, name: Name, block: int) -> Hidden:
        """Return what enters a block."""
        return load_file(self._path(name, block))["hidden"]

    def write(self, name: Name, block: int, hidden: Hidden) -> None:
        """Keep what enters a block."""
        write_file(self._path(name, block), lambda path: save_file({"hidden": hidden.contiguous()}, path))

    def holds(self, block: int) -> bool:
        """Say whether both streams into a block are there."""
        return self._path("clean", block).exists() and self._path("prefix", block).exists()

    def holds_clean(self, block: int) -> bool:
        """Say whether the dense model's stream into a block is there."""
        return self._path("clean", block).exists()

    def drop(self, block: int) -> None:
        """Forget what entered a block and all before it."""
        for path in self._folder.glob("*.safetensors"):
            if int(path.stem.rpartition("-")[2]) <= block:
                path.unlink()

    def _path(self, name: Name, block: int) -> Path:
        return self._folder / f"{name if block else 'clean'}-{block:03d}.safetensors"
