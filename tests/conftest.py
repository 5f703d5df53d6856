"""Fixtures that many tests share."""

import interpreted  # noqa: F401 # isort: skip

import json
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from liptt_cli.cli import screen
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.models.blocks import find_block_list, linears
from liptt_cli.models.hub import Source
from liptt_cli.packing.blob import pack
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.stages.export import Export, export_packed
from tiny_models import FAMILIES, tiny_config, tiny_tokenizer

MakeTinyModel = Callable[..., Path]


@pytest.fixture(scope="session")
def make_tiny_model() -> MakeTinyModel:
    """Return `make(family, directory, *, seed=0, max_shard_size="5GB", **config_overrides) -> Path`.

    It saves a tiny random model with its tokenizer into the directory. Norms and biases are random too, so that a
    forgotten one shows.
    """
    tokenizer = tiny_tokenizer()

    def make(
        family: str, directory: Path, *, seed: int = 0, max_shard_size: str = "5GB", **config_overrides: Any
    ) -> Path:
        config = tiny_config(family, **config_overrides)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(directory, max_shard_size=max_shard_size)
        tokenizer.save_pretrained(directory)
        return directory

    return make


@pytest.fixture(scope="session", params=FAMILIES)
def tiny_models(
    request: pytest.FixtureRequest, make_tiny_model: MakeTinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A directory with one family's tiny model and tokenizer, named by the family; read-only by convention."""
    return make_tiny_model(request.param, tmp_path_factory.mktemp("tiny") / request.param)


@pytest.fixture(scope="session")
def tiny_llama(make_tiny_model: MakeTinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny Llama and its tokenizer; read-only by convention."""
    return make_tiny_model("llama", tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(autouse=True)
def as_loud_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test as a command without `-q` or `-v`, whatever the test before it asked for."""
    monkeypatch.setattr(screen, "_level", screen.NORMAL)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Keep torch on one thread, so that parallel test workers do not fight for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Packed models without a solver: signs under scales, and random binary chains, as the block files of a run


@pytest.fixture(scope="session")
def make_block_files() -> Callable[[Path, Path], list[Path]]:
    """Return `make(model_directory, folder) -> block files`, every linear encoded.

    In turn: row and column scales, a split chain with an odd rank, an mpo chain, row scales with a shift.
    """

    def make(model_directory: Path, folder: Path) -> list[Path]:
        model = AutoModelForCausalLM.from_pretrained(model_directory, dtype=torch.float32)
        path, blocks = find_block_list(model)
        generator = torch.Generator().manual_seed(1)
        makers = (_row_column, _split_chain, _mpo_chain, _shifted_rows)
        files = []
        for number, block in enumerate(blocks):
            tensors, forms = {}, {}
            for index, (name, linear) in enumerate(linears(block).items()):
                value = makers[index % len(makers)](linear.weight.detach(), generator).settled()
                full = f"{path}.{number}.{name}"
                tensors[f"{full}.weight"], forms[full] = pack(value), value.form.to_json()
            files.append(folder / f"block-{number:03d}.safetensors")
            save_file(tensors, files[-1], metadata={"forms": json.dumps(forms)})
        return files

    return make


def _row_column(weight: Tensor, _generator: torch.Generator) -> Grid:
    rows = weight.abs().mean(1).reshape(1, 1, -1, 1)
    cols = (weight.abs().mean(0) / weight.abs().mean()).reshape(1, 1, -1)
    return Grid((weight >= 0).to(torch.uint8)[None], Envelope(rows, cols, weight.shape[1]))


def _shifted_rows(weight: Tensor, _generator: torch.Generator) -> Grid:
    mean = weight.mean(1, keepdim=True)
    rows = (weight - mean).abs().mean(1).reshape(1, 1, -1, 1)
    shift = Envelope(mean.reshape(1, 1, -1, 1), None, weight.shape[1])
    return Grid((weight >= mean).to(torch.uint8)[None], Envelope(rows, None, weight.shape[1]), shift)


def _split_chain(weight: Tensor, generator: torch.Generator) -> Chain:
    rows, columns = weight.shape
    rank = 13
    scales = tuple(torch.rand(length, generator=generator) / 8 + 0.05 for length in (rows, rank, columns))
    cores = (_signs(rows, rank, generator), _signs(rank, columns, generator))
    return Chain(cores, scales, (rows, columns), (rows, 1), (1, columns))


def _mpo_chain(weight: Tensor, generator: torch.Generator) -> Chain:
    rows, columns = weight.shape
    rank = 5
    scales = (torch.rand(rows, generator=generator) / 8, None, torch.rand(columns, generator=generator) / 8)
    cores = (_signs(rows // 4, columns // 4 * rank, generator), _signs(rank * 4, 4, generator))
    return Chain(cores, scales, (rows, columns), (rows // 4, 4), (columns // 4, 4))


def _signs(rows: int, columns: int, generator: torch.Generator) -> Grid:
    return Grid(torch.randint(0, 2, (1, rows, columns), dtype=torch.uint8, generator=generator))


@pytest.fixture(scope="session")
def make_packed_model(make_block_files: Callable[[Path, Path], list[Path]]) -> Callable[..., Path]:
    """Return `make(model_directory, directory, *, shard_bytes=..) -> directory`: the model packed without a solver."""

    def make(model_directory: Path, directory: Path, *, shard_bytes: int = 5 * 10**9) -> Path:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            overlay = Overlay.read(make_block_files(model_directory, Path(folder)))
            source = Source(model_directory, model_directory.name, None)
            origin = Origin(model_directory.name, None, "sign", "0" * 64)
            export_packed(Export(source, overlay, origin, shard_bytes=shard_bytes), directory)
        return directory

    return make


@pytest.fixture(scope="session")
def packed_llama(
    tiny_llama: Path, make_packed_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A directory with the tiny Llama, packed; read-only by convention."""
    return make_packed_model(tiny_llama, tmp_path_factory.mktemp("packed") / "llama")


# Tests that need what is not part of a clone, or of this machine

SHARED = Path(__file__).parents[2] / "shared"
ABSENT = {
    marker: reason
    for marker, there, reason in (
        ("outside", SHARED.is_dir(), "../shared is not here"),
        ("triton", find_spec("triton") is not None, "Triton is not installed; torch's builds for CUDA bring it"),
        ("gpu", torch.cuda.is_available(), "there is no GPU"),
        ("llama_cpp", find_spec("llama_cpp") is not None, "llama-cpp-python is not installed"),
    )
    if not there
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests marked as needing something that is not here."""
    for item in items:
        for marker, reason in ABSENT.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{marker}: {reason}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many marked tests were left out, and why."""
    for marker, reason in ABSENT.items():
        left_out = [report for report in terminalreporter.stats.get("skipped", []) if marker in report.keywords]
        if left_out:
            terminalreporter.write_line(f"{len(left_out)} tests marked `{marker}` were left out: {reason}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of outside models and data; for tests marked `outside` only."""
    return SHARED
