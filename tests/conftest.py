"""Fixtures that many tests share.

# Tiny models

One tiny random model a family, saved with a byte-level tokenizer as a Hugging Face directory, so that tests can use it
end to end. `trellis` is home-made: its class, attributes and call conventions differ from all known architectures.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from transformers.modeling_outputs import CausalLMOutput

from liptt_cli.formats.chain import Chain
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.models.blocks import find_block_list, linears
from liptt_cli.models.hub import Source
from liptt_cli.packing.blob import pack
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.stages.export import Export, export_packed

VOCABULARY = 320
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "opt", "trellis")
MakeTinyModel = Callable[..., Path]


class TrellisConfig(PretrainedConfig):
    """Configuration of the home-made architecture."""

    model_type = "trellis"

    def __init__(self, breadth: int = 32, cells: int = 2, vocab_size: int = VOCABULARY, **kwargs: Any) -> None:
        """Take the width, the number of blocks and the vocabulary."""
        self.breadth = breadth
        self.cells = cells
        self.vocab_size = vocab_size
        self.hidden_size = breadth
        super().__init__(**kwargs)


class TrellisCell(nn.Module):
    """A block with names of its own, called with positional arguments, which returns a tuple."""

    def __init__(self, breadth: int) -> None:
        """Make the linears; `contract` alone has a bias."""
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(breadth, breadth, bias=False) for _ in range(4))
        self.expand = nn.Linear(breadth, 2 * breadth, bias=False)
        self.contract = nn.Linear(2 * breadth, breadth)
        self.norm = nn.LayerNorm(breadth)
        self.register_buffer("tilt", torch.randn(breadth))  # persistent: it must come from the file

    def forward(self, stream: Tensor, places: Tensor, *, barrier: Tensor) -> tuple[Tensor, Tensor]:
        """Attend behind the barrier, then expand and contract."""
        inside = self.norm(stream) + places + self.tilt
        scores = self.wq(inside) @ self.wk(inside).transpose(-1, -2) / inside.shape[-1] ** 0.5
        attention = (scores + barrier).softmax(-1)
        stream = stream + self.wo(attention @ self.wv(inside))
        return stream + self.contract(torch.relu(self.expand(stream))), attention


class TrellisTrunk(nn.Module):
    """Embedding and blocks."""

    def __init__(self, config: TrellisConfig) -> None:
        """Make `cells` blocks, and a decoy list that holds fewer linears."""
        super().__init__()
        self.decoys = nn.ModuleList([nn.Sequential(nn.Linear(config.breadth, 4))])
        self.glyphs = nn.Embedding(config.vocab_size, config.breadth)
        self.cells = nn.ModuleList([TrellisCell(config.breadth) for _ in range(config.cells)])
        self.places = nn.Parameter(torch.randn(64, config.breadth) / 8)
        self.register_buffer("origin", torch.randn(config.breadth))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the last hidden states; every second block sees its places the other way round."""
        stream, tokens = self.glyphs(ids) + self.origin, ids.shape[1]
        barrier = stream.new_full((tokens, tokens), float("-inf")).triu(1)
        for number, cell in enumerate(self.cells):
            places = self.places[:tokens] if number % 2 == 0 else self.places[:tokens].flip(0)
            stream = cell(stream, places, barrier=barrier)[0]
        return stream


class TrellisForCausalLM(PreTrainedModel):
    """The home-made causal language model."""

    config_class = TrellisConfig
    base_model_prefix = "trunk"

    def __init__(self, config: TrellisConfig) -> None:
        """Make trunk, final norm and head."""
        super().__init__(config)
        self.trunk = TrellisTrunk(config)
        self.last_norm = nn.LayerNorm(config.breadth)
        self.lm_head = nn.Linear(config.breadth, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: Tensor) -> CausalLMOutput:
        """Return logits."""
        return CausalLMOutput(logits=self.lm_head(self.last_norm(self.trunk(input_ids))))


AutoConfig.register("trellis", TrellisConfig)
AutoModelForCausalLM.register(TrellisConfig, TrellisForCausalLM)


def tiny_config(family: str, **overrides: Any) -> PretrainedConfig:
    """Return the configuration of a family's tiny model; overrides go by the family's own names."""
    gated: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
    opt = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
    sliding = {"use_sliding_window": True, "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]}
    makers: dict[str, Callable[[], PretrainedConfig]] = {
        "llama": lambda: LlamaConfig(**{**gated, **overrides}),
        "mistral": lambda: MistralConfig(**{**gated, "sliding_window": 8, **overrides}),
        "qwen2": lambda: Qwen2Config(**{**gated, **sliding, **overrides}),
        "qwen3": lambda: Qwen3Config(**{**gated, "head_dim": 16, "tie_word_embeddings": True, **overrides}),
        "opt": lambda: OPTConfig(**{**opt, **overrides}),
        "trellis": lambda: TrellisConfig(**overrides),
    }
    return makers[family]()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of `VOCABULARY` entries on a few sentences."""
    text = [
        "The weights of a linear are split into cores, and the cores are signs with a scale for every row.",
        "A block is read, its inputs are collected, its linears are fitted one by one, and it is written out again.",
        "Nothing that is read twice is read for nothing; the shortest text that trains these merges is long enough.",
        "Once upon a time there was a small model that had learnt to tell stories about a girl, a dog and the sea.",
    ]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        text, vocab_size=VOCABULARY, min_frequency=2, special_tokens=["<s>", "</s>"], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=256
    )


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


# Tests that need ../shared, which is not part of a clone

SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests marked `outside` where ../shared is not there."""
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("outside"):
                item.add_marker(pytest.mark.skip(reason="outside: ../shared is not here"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests marked `outside` were left out."""
    left_out = [report for report in terminalreporter.stats.get("skipped", []) if "outside" in report.keywords]
    if left_out:
        terminalreporter.write_line(f"{len(left_out)} tests marked `outside` were left out: ../shared is not here")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of outside models and data; for tests marked `outside` only."""
    return SHARED
