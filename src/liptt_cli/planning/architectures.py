"""The shape of a model that a configuration names: a local directory, a shipped `config.json`, or the hub's.

`configs/architectures/<owner>--<name>.json` lets `liptt plan` price a hub model without a network.
"""

import json
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from liptt_cli.errors import ModelError
from liptt_cli.planning.sites import ModelShape, model_shape, shape_from_config


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
        return shape_from_config(json.loads(shipped.read_text(encoding="utf8")))
    try:
        path = huggingface_hub.hf_hub_download(model, "config.json", revision=revision)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(
            f"{model}: no such directory, and its config.json could not be fetched from the hub "
            f"({type(error).__name__}). Give a local directory, or `hf download {model} config.json` while online"
        ) from error
    return shape_from_config(json.loads(Path(path).read_text(encoding="utf8")))
