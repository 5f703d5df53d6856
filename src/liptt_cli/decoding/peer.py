"""llama.cpp beside us, through the low-level face of llama-cpp-python: the only file that knows that package.

Its weights are by chance, of the same shapes: that is honest for speed, and says nothing of quality.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from liptt_cli.errors import MissingExtra, ResourceError
from liptt_cli.exports.gguf_noise import why_not, write_noise

KINDS = ("TQ2_0", "Q1_0", "Q4_0", "F16")
_PACKAGE = "llama_cpp"
_HALF_BYTES = 2


def why_absent() -> str | None:
    """Return how to install the package, None if it is there."""
    if importlib.util.find_spec(_PACKAGE) is not None:
        return None
    return (
        "llama.cpp is not here: pip install 'liptt[peers]' (llama-cpp-python, which a C++ compiler and cmake build for "
        "some minutes); without it there are no peers"
    )


def write_files(
    config: Any, folder: Path, note: Callable[[str], None], *, kinds: Sequence[str] = KINDS
) -> Iterator[tuple[str, Path]]:
    """Write a file of noise for each type, and yield the type's name and the file.

    Args:
        config: the model's configuration, an object of transformers.
        folder: where to.
        note: told of each type that cannot hold these shapes, and why.
        kinds: the types.

    Raises:
        ModelError: if llama.cpp has no such family.
    """
    told = config.to_dict()
    for kind in kinds:
        reason = why_not(told, kind)
        if reason is not None:
            note(f"llama.cpp's {kind} is left out: {reason}")
            continue
        file = folder / f"{kind}.gguf"
        write_noise(file, told, kind)
        yield kind, file


class LlamaCpp:
    """One file in llama.cpp."""

    def __init__(self, path: str, *, capacity_tokens: int, threads: int) -> None:
        """Load a file, on the processor.

        Raises:
            MissingExtra: if the package is not installed.
            ResourceError: if llama.cpp cannot load the file.
        """
        reason = why_absent()
        if reason is not None:
            raise MissingExtra(reason)
        import llama_cpp

        self._api: Any = llama_cpp
        self._silent = llama_cpp.llama_log_callback(lambda *_told: None)
        self._api.llama_log_set(self._silent, None)
        self._kind = Path(path).stem
        self._api.llama_backend_init()
        parameters = self._api.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self._model = self._api.llama_model_load_from_file(path.encode(), parameters)
        wanted = self._api.llama_context_default_params()
        wanted.n_ctx = wanted.n_batch = wanted.n_ubatch = capacity_tokens
        wanted.n_threads = wanted.n_threads_batch = threads
        self._context = self._api.llama_init_from_model(self._model, wanted) if self._model else None
        if self._context is None:
            raise ResourceError(f"{path}: llama.cpp does not load it; -v of its own tools tells more")
        self._vocabulary = int(self._api.llama_vocab_n_tokens(self._api.llama_model_get_vocab(self._model)))

    def prefill(self, ids: list[int]) -> int:
        """Read a prompt."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        return self._read(ids)

    def step(self, token: int) -> int:
        """Read one token."""
        return self._read([token])

    def facts(self) -> dict[str, Any]:
        """Return what it is, its embedding counted by the row."""
        api, model = self._api, self._model
        width = int(api.llama_model_n_embd(model))
        keys = int(api.llama_model_n_head_kv(model)) * width // int(api.llama_model_n_head(model))
        table = self._vocabulary * width * _HALF_BYTES
        return {
            "engine": "llama.cpp",
            "dtype": self._kind,
            "weight_bytes_per_token": int(api.llama_model_size(model)) - table,
            "cache_bytes_per_token": int(api.llama_model_n_layer(model)) * keys * 2 * _HALF_BYTES,
            "weights": "by chance",
            "kernels": [],
        }

    def agreement(self, prompt: list[int], tokens: list[int]) -> None:
        """Return nothing: its weights are others."""
        return

    def _read(self, ids: list[int]) -> int:
        given = (self._api.llama_token * len(ids))(*ids)
        if self._api.llama_decode(self._context, self._api.llama_batch_get_one(given, len(ids))) != 0:
            raise ResourceError(f"{self._kind}: llama.cpp could not read {len(ids)} tokens")
        logits = self._api.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocabulary,)).argmax())
