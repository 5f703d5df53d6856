"""Finding and loading models: every kind of place, every refusal, and nothing on stderr."""

import io
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from liptt_cli.errors import ConfigError, IntegrityError, ModelError
from liptt_cli.models import hub
from liptt_cli.models.hub import Source, compute_dtype, empty_model, load_model, load_tokenizer, locate, read_config

WEIGHTS = "model.safetensors"


@pytest.fixture
def own_llama(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama that a test may break."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "llama"))


def test_a_local_directory_is_found_absolute_or_near(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative to the working directory, relative to the config's folder."""
    expected = Source(tiny_llama.resolve(), tiny_llama.name, None)
    assert locate(str(tiny_llama)) == expected
    assert locate(tiny_llama.name, near=tiny_llama.parent) == expected
    monkeypatch.chdir(tiny_llama.parent)
    assert locate(f"./{tiny_llama.name}") == expected


def test_the_working_directory_goes_before_the_configs_folder(
    own_llama: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two directories of one name."""
    monkeypatch.chdir(own_llama.parent)
    assert locate("llama", near=tiny_llama.parent).path == own_llama.resolve()


def test_a_run_directory_means_its_model(own_llama: Path, tmp_path: Path) -> None:
    """The model lies in `model/`, the name is the run's."""
    run = tmp_path / "run"
    (run / "06-export").mkdir(parents=True)
    (run / "config.resolved.yaml").write_text("version: 1\n")
    shutil.copytree(own_llama, run / "model")
    assert locate(str(run)) == Source((run / "model").resolve(), "run", None)


def test_an_unfinished_run_is_refused_with_the_way_on(tmp_path: Path) -> None:
    """The message names the stage and the command."""
    (tmp_path / "config.resolved.yaml").write_text("version: 1\n")
    with pytest.raises(ModelError, match=r"export stage did not finish.*liptt compress .*--resume"):
        locate(str(tmp_path))


def test_a_directory_without_config_is_refused(own_llama: Path) -> None:
    """The message names what is missing."""
    (own_llama / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate(str(own_llama))


def test_a_directory_without_weights_is_refused_only_if_they_are_wanted(own_llama: Path) -> None:
    """Planning needs the configuration alone."""
    (own_llama / WEIGHTS).unlink()
    assert locate(str(own_llama), weights=False).path == own_llama.resolve()
    with pytest.raises(ModelError, match=r"no weights"):
        locate(str(own_llama))


def test_a_path_that_is_not_there_is_refused_without_asking_the_hub(tmp_path: Path) -> None:
    """An absolute path is no hub id, and neither is a file."""
    with pytest.raises(ModelError, match="no such directory"):
        locate(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="no such directory"):
        locate("file", near=tmp_path)


def test_a_revision_of_a_local_directory_is_refused(tiny_llama: Path) -> None:
    """It would be ignored otherwise."""
    with pytest.raises(ConfigError, match="set revision to null"):
        locate(str(tiny_llama), revision="main")


def hub_error(kind: type[Exception]) -> Exception:
    """Make one of the hub's errors without a response."""
    error = kind.__new__(kind)
    Exception.__init__(error, "the hub's words\nand more")
    return error


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (GatedRepoError, "gated.*hf auth login"),
        (RepositoryNotFoundError, "no such model on the hub.*hf auth login"),
        (RevisionNotFoundError, "no revision 'v9'"),
        (LocalEntryNotFoundError, "could not be fetched.*hf download owner/name"),
        (OfflineModeIsEnabled, "could not be fetched.*OfflineModeIsEnabled: the hub's words"),
    ],
)
def test_what_the_hub_refuses_is_told_with_a_remedy(
    kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every refusal also says that a local directory will do."""

    def refuse(*_args: object, **_kwargs: object) -> str:
        raise hub_error(kind)

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=words) as refusal:
        locate("owner/name", revision="v9")
    assert "local directory" in str(refusal.value)


@pytest.mark.parametrize("weights", [True, False])
def test_a_hub_model_is_fetched_without_pickle(
    weights: bool, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only safetensors and texts are asked for; the revision is the snapshot's commit."""
    asked: dict[str, object] = {}

    def fetch(model: str, **kwargs: object) -> str:
        asked.update(kwargs, model=model)
        return str(tiny_llama)

    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", fetch)
    assert locate("owner/name", weights=weights) == Source(tiny_llama, "owner/name", tiny_llama.name)
    assert ("*.safetensors" in asked["allow_patterns"]) is weights  # type: ignore[operator]  # the fake keeps objects
    assert not any("bin" in pattern or "pt" in pattern for pattern in asked["allow_patterns"])  # type: ignore[attr-defined]  # as above


def test_configuration_and_tokenizer_are_read(tiny_models: Path) -> None:
    """For every family, and text comes back from its tokens."""
    source = locate(str(tiny_models))
    assert read_config(source).model_type == tiny_models.name
    tokenizer = load_tokenizer(source)
    text = "The weights of a block, gelesen für später."
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert 300 <= len(tokenizer) <= 400


@pytest.mark.parametrize("text", ["{", '{"model_type": "unheard"}', "{}"])
def test_a_config_that_says_nothing_is_refused(own_llama: Path, text: str) -> None:
    """The message names the directory."""
    (own_llama / "config.json").write_text(text)
    with pytest.raises(ModelError) as refusal:
        read_config(Source(own_llama, "x", None))
    assert str(own_llama) in str(refusal.value)


def test_code_in_the_directory_is_refused_by_default(own_llama: Path) -> None:
    """The message names the switch."""
    config = json.loads((own_llama / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "strange.Strange"}}
    (own_llama / "config.json").write_text(json.dumps(config))
    (own_llama / "strange.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(ModelError, match=r"load\.trust_remote_code"):
        read_config(Source(own_llama, "x", None))


def test_a_directory_without_tokenizer_is_refused(own_llama: Path) -> None:
    """The message names the directory."""
    for file in own_llama.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError) as refusal:
        load_tokenizer(Source(own_llama, "x", None))
    assert str(own_llama) in str(refusal.value)


def test_a_whole_model_is_loaded_for_use(tiny_models: Path) -> None:
    """Eval mode, the asked dtype, the stored values."""
    model = load_model(locate(str(tiny_models)), dtype=torch.bfloat16)
    assert not model.training
    stored = load_file(tiny_models / WEIGHTS)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, stored[name].to(torch.bfloat16))


@pytest.mark.parametrize(("lost", "added", "words"), [(True, False, "missing keys"), (False, True, "unexpected keys")])
def test_weights_of_another_config_are_refused(own_llama: Path, lost: bool, added: bool, words: str) -> None:
    """A tensor too few or too many."""
    tensors = load_file(own_llama / WEIGHTS)
    if lost:
        del tensors["model.layers.1.mlp.up_proj.weight"]
    if added:
        tensors["model.layers.1.mlp.extra"] = torch.ones(1)
    save_file(tensors, own_llama / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=words + r".*model\.layers\.1\.mlp\."):
        load_model(Source(own_llama, "x", None), dtype=torch.float32)


def test_weights_of_another_shape_are_refused(own_llama: Path) -> None:
    """The width of the file is not the width of the configuration."""
    tensors = load_file(own_llama / WEIGHTS)
    tensors["model.norm.weight"] = torch.ones(7)
    save_file(tensors, own_llama / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="config.json"):
        load_model(Source(own_llama, "x", None), dtype=torch.float32)


def test_a_truncated_file_and_nan_are_refused(own_llama: Path) -> None:
    """The same words as when streaming."""
    tensors = load_file(own_llama / WEIGHTS)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, own_llama / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"'model\.norm\.weight' holds 1 "):
        load_model(Source(own_llama, "x", None), dtype=torch.float32)
    (own_llama / WEIGHTS).write_bytes((own_llama / WEIGHTS).read_bytes()[:-9])
    with pytest.raises(ModelError, match=r"model\.safetensors.*truncated"):
        load_model(Source(own_llama, "x", None), dtype=torch.float32)


def test_an_empty_model_has_no_weights_but_its_buffers(tiny_models: Path) -> None:
    """Parameters on meta, frozen, in the asked dtype; buffers real; ties kept."""
    source = locate(str(tiny_models))
    model = empty_model(source, dtype=torch.bfloat16)
    assert not model.training
    for parameter in model.parameters():
        assert parameter.is_meta
        assert not parameter.requires_grad
        assert parameter.dtype == torch.bfloat16
    assert not any(buffer.is_meta for buffer in model.buffers())
    names = [name for name, _ in model.named_parameters()]  # a tied parameter counts once
    assert ("lm_head.weight" in names) is (tiny_models.name not in {"opt", "qwen3"})


def test_modules_made_afterwards_are_real_again(tiny_llama: Path) -> None:
    """The redirection to meta ends with the model."""
    empty_model(locate(str(tiny_llama)), dtype=torch.float32)
    assert not torch.nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_computes_in_bfloat16_only_for_large_models_on_able_machines(
    hardware: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small models and those stored in float32 stay exact; an explicit wish is followed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": hardware, "amx_bf16": False})
    large = {"stored": torch.bfloat16, "parameters": 7_000_000_000}
    assert compute_dtype("auto", **large) == (torch.bfloat16 if hardware else torch.float32)
    assert compute_dtype("auto", **{**large, "stored": torch.float32}) == torch.float32
    assert compute_dtype("auto", **{**large, "parameters": 5_000_000}) == torch.float32
    assert compute_dtype("float32", **large) == torch.float32
    assert compute_dtype("bfloat16", stored=torch.float32, parameters=10) == torch.bfloat16


def test_nothing_reaches_stderr(own_llama: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither log lines nor progress bars, even where transformers would report on the weights."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    transformers_logging.add_handler(handler)
    try:
        for load in (
            lambda source: load_model(source, dtype=torch.float32),
            lambda source: empty_model(source, dtype=torch.float32),
            load_tokenizer,
        ):
            transformers_logging.set_verbosity_info()
            transformers_logging.enable_progress_bar()
            load(Source(own_llama, "x", None))
    finally:
        transformers_logging.remove_handler(handler)
    assert said.getvalue() == ""
    assert capfd.readouterr() == ("", "")
