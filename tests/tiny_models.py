"""One tiny random model a family, with a byte-level tokenizer.

`trellis` is home-made: its class, attributes and call conventions differ from all known architectures.
"""

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.modeling_outputs import CausalLMOutput

VOCABULARY = 320
MIXTURES = ("mixtral", "qwen3_moe")
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "opt", "trellis")


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
    mixture = {"head_dim": 16, "moe_intermediate_size": 32, "num_experts": 6, "num_experts_per_tok": 2}
    makers: dict[str, Callable[[], PretrainedConfig]] = {
        "llama": lambda: LlamaConfig(**{**gated, **overrides}),
        "mistral": lambda: MistralConfig(**{**gated, "sliding_window": 8, **overrides}),
        "qwen2": lambda: Qwen2Config(**{**gated, **sliding, **overrides}),
        "qwen3": lambda: Qwen3Config(**{**gated, "head_dim": 16, "tie_word_embeddings": True, **overrides}),
        "mixtral": lambda: MixtralConfig(**{**gated, "num_local_experts": 4, "num_experts_per_tok": 2, **overrides}),
        "qwen3_moe": lambda: Qwen3MoeConfig(**{**gated, **mixture, **overrides}),
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
