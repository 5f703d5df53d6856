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
        model: a directory (relative to the working directory, else to `near`) or a hub id.
        revision: of a hub id.
        near: the folder of the configuration.
        configs: the folder of the shipped configurations.

    Raises:
        ModelError: if it is nowhere.
    """
    for directory in (Path(model).expanduser(), near / model):
        if directory.is_dir():
            return model_shape(directory)
    shipped = configs / "architectures" / f"{model.replace('/', '--')}.json"
    if shipped.exists():
        return _read(shipped)
    try:
        path = huggingface_hub.hf_hub_download(model, "config.json", revision=revision)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(
            f"{model}: no such directory, and its config.json could not be fetched from the hub "
            f"({type(error).__name__}). Give a local directory, or `hf download {model} config.json` while online"
        ) from error
    return _read(Path(path))


def model_shape(directory: Path) -> ModelShape:
    """Return the shape of the model in a directory, from its weight files or its `config.json`.

    Raises:
        ModelError: if neither tells it.
    """
    headers = read_headers(directory)
    if headers:
        return shape_from_headers(headers)
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory}: neither .safetensors files nor config.json; is this a model directory?")
    return _read(path)


def _read(path: Path) -> ModelShape:
    try:
        return shape_from_config(json.loads(path.read_text(encoding="utf8")))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); fetch it again") from error
