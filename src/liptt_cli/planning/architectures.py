"""The shape of a model that a configuration names: a local directory, a shipped `config.json`, or the hub's.

`configs/architectures/<owner>--<name>.json` lets `liptt plan` price a hub model without a network.
"""

import json
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from liptt_cli.errors import ModelError
from liptt_cli.planning.formulas import shape_from_config
from liptt_cli.planning.sites import ModelShape, read_headers, shape_from_headers


def find_shape(model: str, *, revision: str | None, near: Path, configs: Path) -> ModelShape:
    """Return the shape of the model.

    Args:
        model: a directory (relative to the working directory, else to `near`, else to `configs`) or a hub id.
        revision: of a hub id.
        near: the folder of the configuration.
        configs: the folder of the shipped configurations.

    Raises:
        ModelError: if it is nowhere.
    """
    for directory in (Path(model).expanduser(), near / model, configs / model):
        if directory.is_dir():
            return model_shape(directory)
    shipped = configs / "architectures" / f"{model.replace('/', '--')}.json"
    if shipped.exists():
        return _read(shipped)
    try:  # a snapshot asks for the repository first, and does not try again for half a minute where there is no network
        path = Path(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=["config.json"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(
            f"{model}: no such directory, and its config.json could not be fetched from the hub "
            f"({type(error).__name__}). Give a local directory, or `hf download {model} config.json` while online"
        ) from error
    return model_shape(path)


def model_shape(directory: Path) -> ModelShape:
    """Return the shape of the model in a directory, from its weight files or its `config.json`.

    Raises:
        ModelError: if neither tells it.
    """
    headers = read_headers(directory)
    if headers:
        return shape_from_headers(headers, vocabulary=_vocabulary(directory))
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory}: neither .safetensors files nor config.json; is this a model directory?")
    return _read(path)


def _vocabulary(directory: Path) -> int | None:
    """Return how many tokens the model knows, None if nothing says so."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); fetch it again") from error
    found: int | None = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    return found


def _read(path: Path) -> ModelShape:
    try:
        return shape_from_config(json.loads(path.read_text(encoding="utf8")))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); fetch it again") from error
