"""The door to transformers and the hub: where a model lies, its configuration, tokenizer, weights or empty skeleton.

Apart from the plug-in in `hf/`, nothing else imports transformers. Only safetensors are loaded, never pickle; code that
comes with a model runs only if the user allows it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import huggingface_hub
import torch
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils.tqdm import disable_progress_bars
from safetensors import SafetensorError
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from liptt_cli.config import configs_folder
from liptt_cli.errors import ConfigError, Fault, MissingExtra, ModelError
from liptt_cli.models.experts import unfold
from liptt_cli.models.refusals import hub_refusal, reason_of
from liptt_cli.models.shards import Shards, require_finite

ModelConfig: TypeAlias = PretrainedConfig
Tokenizer: TypeAlias = PreTrainedTokenizerBase
WholeModel: TypeAlias = PreTrainedModel

CausalModels: Any = AutoModelForCausalLM  # its annotations leave out what its options return

RUN_CONFIG = "config.resolved.yaml"
RUN_MODEL = "model"
TEXT_PATTERNS = ["*.json", "*.model", "*.txt", "*.jinja", "*.py"]  # code is fetched, but runs only when allowed
WEIGHT_PATTERNS = ["*.safetensors"]
IGNORED_PATTERNS = ["*/*", "consolidated*"]
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
SMALL_PARAMETERS = 100_000_000


@dataclass(frozen=True)
class Source:
    """A model found: a local directory with `config.json`, what to call it, and its commit if it came from the hub."""

    path: Path
    name: str
    revision: str | None


def locate(model: str, *, revision: str | None = None, near: Path | None = None, weights: bool = True) -> Source:
    """Find a model: a run directory of ours, an exported or other local directory, a shipped one, else a hub id.

    Args:
        model: a directory (relative to the working directory, else to `near`, else to the shipped configurations, which
            have `reference`) or a hub id.
        revision: branch, tag or commit; only a hub id has one.
        near: the folder of the config file that names the model.
        weights: whether safetensors files must be there too; without them only texts are fetched.

    Raises:
        ModelError: if there is no such model, it cannot be fetched, or something is missing in it.
        ConfigError: if a revision is given for a local directory.
    """
    written = Path(model).expanduser()
    places = [written, *(() if near is None else (near / written,)), configs_folder() / written]
    directory = next((place.resolve() for place in places if place.is_dir()), None)
    if directory is None:
        if not HUB_ID.fullmatch(model) or written.is_file():
            raise ModelError(
                f"{model}: no such directory (looked in {', '.join(str(place.absolute().parent) for place in places)}) "
                "and not a hub id of the form owner/name."
            )
        snapshot = _fetched(model, revision, weights=weights)
        return Source(snapshot, model, snapshot.name)  # a snapshot's folder is named by its commit
    if revision is not None:
        raise ConfigError(
            Fault(
                "revision",
                f"{revision!r} given for the local directory {directory}; set revision to null, only hub ids have one",
            )
        )
    return Source(_checked(_model_folder(directory), weights=weights), directory.name, None)


def why_no_data(dataset: str) -> str | None:
    """Return why the hub's data set cannot be had; None if it is there or in the cache. Fetches its card at most."""
    quiet_transformers()
    try:
        huggingface_hub.snapshot_download(dataset, repo_type="dataset", allow_patterns=["README.md"])
    except (OSError, ValueError) as error:  # all of the hub's errors are one or the other
        return reason_of(error)
    return None


def read_config(source: Source, trust_remote_code: bool = False) -> ModelConfig:
    """Read a model's `config.json`.

    Raises:
        ModelError: if it cannot be read, names an unknown architecture, or needs code that is not allowed.
    """
    quiet_transformers()
    with _explained(source):
        config = AutoConfig.from_pretrained(source.path, trust_remote_code=trust_remote_code)
    if not isinstance(config, PretrainedConfig):
        raise ModelError(f"{source.path}: config.json gave {type(config).__name__}, not a model's configuration.")
    return config


def load_tokenizer(source: Source) -> Tokenizer:
    """Load a model's tokenizer.

    Raises:
        ModelError: if there is none.
    """
    quiet_transformers()
    with _explained(source):
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(source.path)
    return tokenizer


def load_model(source: Source, *, dtype: torch.dtype, trust_remote_code: bool = False) -> WholeModel:
    """Load a whole model in eval mode, packed ones included if the plug-in is registered; experts are unfolded.

    Raises:
        ModelError: if weights are missing, superfluous, of another shape, or cannot be read.
        IntegrityError: if a weight is NaN or Inf.
    """
    quiet_transformers()
    shards = Shards(source.path)  # refuses truncated shards and wrong indexes with the file's name
    with _explained(source):
        model, report = CausalModels.from_pretrained(
            source.path,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            keys = sorted(str(key) for key in report[kind])
            raise ModelError(
                f"{source.path}: {kind.replace('_', ' ')} ({len(keys)}): {', '.join(keys[:3])}; weights and "
                "config.json do not belong together. Save or download the model again."
            )
    for name, parameter in model.named_parameters():
        require_finite(parameter.detach(), name=name, place=source.path)
    unfold(model, shards.names())
    loaded: WholeModel = model.eval()
    return loaded


def empty_model(source: Source, *, dtype: torch.dtype, trust_remote_code: bool = False) -> WholeModel:
    """Build a model without its weights: parameters on meta and frozen, buffers real, eval mode.

    Raises:
        ModelError: if the architecture is unknown.
    """
    config = read_config(source, trust_remote_code)
    with _explained(source), _parameters_on_meta():
        model = CausalModels.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    empty: WholeModel = model.eval().requires_grad_(False)
    return empty


def compute_dtype(
    setting: Literal["auto", "float32", "bfloat16"], *, stored: torch.dtype | None = None, parameters: int | None = None
) -> torch.dtype:
    """Choose the dtype to compute in.

    Auto is bfloat16 where the machine multiplies it in hardware, but float32 for models that are stored so or small:
    without such hardware bfloat16 was measured 7 times slower, and small models lose nothing by staying exact.

    Args:
        setting: the user's choice.
        stored: the dtype of the weights on disk.
        parameters: how many the model has; below 100 million it is small.
    """
    if setting != "auto":
        return torch.float32 if setting == "float32" else torch.bfloat16
    small = parameters is not None and parameters < SMALL_PARAMETERS
    exact = small or stored == torch.float32
    return torch.bfloat16 if not exact and _multiplies_bfloat16() else torch.float32


def quiet_transformers() -> None:
    """Keep the warnings and progress bars of transformers and the hub off stderr; what matters is raised by us."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    hub_logging.set_verbosity_error()


def _multiplies_bfloat16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _model_folder(directory: Path) -> Path:
    """Return where the model lies: in `model/` for a run directory, else in the directory itself."""
    if not (directory / RUN_CONFIG).is_file():
        return directory
    if not (directory / RUN_MODEL / "config.json").is_file():
        raise ModelError(
            f"{directory}: this run has no {RUN_MODEL}/ yet; its export stage did not finish. "
            f"Finish it with: liptt compress --resume {directory}"
        )
    return directory / RUN_MODEL


def _checked(directory: Path, *, weights: bool) -> Path:
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory}: no config.json; give a directory in Hugging Face's layout, or a run directory.")
    if weights:
        Shards(directory)
    return directory


def _fetched(model: str, revision: str | None, *, weights: bool) -> Path:
    """Bring a hub model to this machine, or find it in the cache."""
    quiet_transformers()
    try:
        path = huggingface_hub.snapshot_download(
            model,
            revision=revision,
            allow_patterns=TEXT_PATTERNS + (WEIGHT_PATTERNS if weights else []),
            ignore_patterns=IGNORED_PATTERNS,
        )
    except (OSError, ValueError) as error:  # all of the hub's errors are one or the other
        raise ModelError(hub_refusal(model, revision, error)) from error
    return _checked(Path(path), weights=weights)


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turn what transformers raises about a directory into our error, with the directory's name."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        hint = ""
        if "trust_remote_code" in str(error):
            hint = " Set load.trust_remote_code to true only if you trust that code."
        raise ModelError(f"{source.path}: transformers cannot load this: {error}{hint}") from error
    except ImportError as error:
        raise MissingExtra(f"{source.path}: this model needs a package that is not installed: {error}") from error
    except RuntimeError as error:
        if "size" not in str(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ModelError(f"{source.path}: weights do not fit config.json: {error}") from error


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move every parameter that is registered in here to meta; buffers are made as usual."""

    def move(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return None  # keeps it, so that tied parameters stay one
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(move)  # type: ignore[arg-type]  # torch: a hook may return one
    try:
        yield
    finally:
        handle.remove()
