"""The whole configuration of a run, as `configs/*.yaml` spell it."""

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from liptt_cli.menu.base import Count, NotNegative, Options, Positive, Share
from liptt_cli.menu.binarize import Binarize, Term
from liptt_cli.menu.decompose import Decompose, Knapsack
from liptt_cli.menu.tuning import FineTuning
from liptt_cli.menu.weight_codecs import GROUP_COLUMNS, GridCodec

_ROUNDING = 1e-6
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(value: object) -> object:
    """Return "900MB" as a number of bytes; anything else is left to the type check."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2].upper() not in _UNITS:
        return value
    return int(float(match[1]) * _UNITS[match[2].upper()])


WindowTokens = Annotated[
    Annotated[int, Field(ge=8)] | None, Field(description="null: 2048, or as many as the model has positions")
]
WINDOW_TOKENS = 2048
Bytes = Annotated[Annotated[int, Field(ge=1)], BeforeValidator(parse_bytes)]


class Calibration(Options):
    """The text that calibrates and tunes; never the text that evaluates."""

    corpus: Annotated[
        str | dict[str, Share],
        Field(description="stdlib, self, wikitext2, c4, or a text or jsonl file; or shares: {self: 0.5, c4: 0.5}"),
    ] = "stdlib"
    windows: Count = 128
    window_tokens: WindowTokens = None
    damping: Annotated[NotNegative, Field(description="share of the mean diagonal added to the gram")] = 0.01
    shrinkage: Annotated[Share, Field(description="pull of the second moment towards its mean")] = 0.0
    batch_windows: Annotated[Count, Field(description="windows at once in a forward pass")] = 8
    gradient_windows: Annotated[
        Count, Field(description="the first windows, or all if they are fewer, go through a backward pass if needed")
    ] = 32
    clip_percentile: Annotated[
        float,
        Field(gt=0, le=100, description="tokens whose norm exceeds this percentile are clipped to it; 100: none"),
    ] = 100.0

    @model_validator(mode="after")
    def _whole_mix(self) -> Self:
        total = sum(self.shares.values())
        if abs(total - 1) > _ROUNDING:
            raise ValueError(
                f"corpus: the shares add up to {total:.6g}, not to 1; they are laid over the recipe's, "
                "so a corpus that it names and you do not want needs the share 0"
            )
        return self

    @property
    def most_tokens(self) -> int:
        """Return how many tokens a window has at most."""
        return self.window_tokens or WINDOW_TOKENS

    @property
    def shares(self) -> dict[str, float]:
        """Return each corpus's share of the windows."""
        return {self.corpus: 1.0} if isinstance(self.corpus, str) else self.corpus


class Load(Options):
    """The load stage."""

    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], Field(description="of computation; auto: by the machine's capability")
    ] = "auto"
    include: Annotated[list[str], Field(description="globs of linears to compress; routers are none")] = ["*"]
    skip: Annotated[list[str], Field(description="globs of linears to leave alone")] = []
    trust_remote_code: bool = False


class Tables(Options):
    """The token embedding and the output head, which are rounded as they are: nothing is fitted or trained there."""

    bits: Annotated[
        Literal[8, 4] | None, Field(description="of a number of embedding and head; null: they stay as they are")
    ] = None
    group_columns: Annotated[
        Count | None, Field(description="columns of a row that share a scale; null: one scale a row")
    ] = GROUP_COLUMNS

    @property
    def codec(self) -> GridCodec | None:
        """Return what rounds them; with 8 bits the range serves, with 4 a smaller one is nearer."""
        if self.bits is None:
            return None
        return GridCodec(
            kind="grid",
            alphabet="int8" if self.bits == 8 else "int4",
            scale=["row"] if self.group_columns is None else ["group"],
            group_columns=self.group_columns,
            fit="minmax" if self.bits == 8 else "search",
            search_norm=2.0,
            search_range=[0.6, 1.0],
            search_steps=9,
        )


class Evaluate(Options):
    """The evaluate stage."""

    perplexity: Annotated[list[str], Field(description="corpora")] = []
    tasks: Annotated[list[str], Field(description="lm-evaluation-harness tasks, or YAML files of tasks")] = []
    window_tokens: WindowTokens = None
    windows: Annotated[Count | None, Field(description="windows of each corpus, a seeded subset; null: all")] = None
    stride: Annotated[Count | None, Field(description="tokens between windows; null: window_tokens")] = None
    limit: Annotated[Count | None, Field(description="documents a task, a seeded subset; null: all")] = None
    lipschitz: Annotated[bool, Field(description="report each block's student to teacher gain")] = True


class Export(Options):
    """The export stage."""

    to: Annotated[
        list[Literal["liptt", "hf", "compressed-tensors", "gguf"]],
        Field(description="packed; plain; two-bit codes for transformers and vLLM; a file for llama.cpp"),
    ] = ["liptt"]
    shard_bytes: Annotated[Bytes, Field(description='largest weight file, such as "5GB"')] = 5 * 10**9
    allow_densify: Annotated[
        bool, Field(description="write as plain numbers what compressed-tensors or gguf cannot hold exactly")
    ] = False
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None, Field(description="of hf; null: the run's own")
    ] = None
    gguf_type: Annotated[
        Literal["Q1_0", "TQ1_0", "TQ2_0", "Q4_0", "Q8_0", "F16", "BF16", "F32"] | None,
        Field(description="of compressed linears that it holds exactly; null: the smallest that does"),
    ] = None
    gguf_tables: Annotated[
        Literal["Q8_0", "F16", "BF16", "F32"], Field(description="of embeddings, head and linears left alone")
    ] = "F16"

    @model_validator(mode="after")
    def _of_its_targets(self) -> Self:
        for key, target in (("dtype", "hf"), ("gguf_type", "gguf")):
            if getattr(self, key) is not None and target not in self.to:
                raise ValueError(f"{key} is of {target}, which is not in to: [{', '.join(self.to)}]")
        return self


class RunConfig(Options):
    """A run: a method's pieces, a model, a dial."""

    version: Literal[1] = 1
    method: Annotated[str, Field(description="a shipped recipe's name, or the name of the recipe defined here")]
    extends: Annotated[str | None, Field(description="a configuration to build on, one level deep")] = None
    model: Annotated[str | None, Field(description="a local directory or a hub id")] = None
    revision: str | None = None
    bits_per_weight: Annotated[
        Positive | None, Field(description="all stored bits over the weights replaced; null: the recipe's own price")
    ] = None
    target_size: Annotated[Bytes | None, Field(description='of the whole file, such as "900MB"')] = None
    seed: Annotated[int, Field(ge=0)] = 0
    output: Annotated[str, Field(description="folder that run directories are made in")] = "runs"
    calibration: Calibration = Calibration()
    load: Load = Load()
    tables: Tables = Tables()
    decompose: Decompose = Decompose()
    binarize: Binarize = Binarize()
    finetune: FineTuning = FineTuning()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @property
    def terms(self) -> dict[str, Term]:
        """Return the terms that a weight is the sum of, by the place of their options; mostly one."""
        binarize = self.binarize
        main = Term.model_construct(factor=self.decompose.factor, codec=binarize.codec, solver=binarize.solver)
        return {"decompose": main} | {f"binarize.residual.{k}": term for k, term in enumerate(binarize.residual)}

    @model_validator(mode="after")
    def _pieces_fit(self) -> Self:
        self.terms["decompose"].check()
        return self

    @model_validator(mode="after")
    def _allocator_has_what_it_needs(self) -> Self:
        allocator = self.decompose.allocator
        if not isinstance(allocator, Knapsack):
            return self
        if self.bits_per_weight is None and self.target_size is None:
            raise ValueError("decompose.allocator.kind is knapsack, so bits_per_weight or target_size is needed")
        if allocator.weight_by in ("output", "gradient") and self.binarize.metric.cols == "none":
            raise ValueError(
                f"decompose.allocator.weight_by is {allocator.weight_by}, which weighs errors of outputs, but "
                "binarize.metric.cols is none; use diagonal or full"
            )
        if allocator.weight_by == "divergence" and allocator.windows > self.calibration.windows:
            raise ValueError(
                f"decompose.allocator.windows is {allocator.windows}, but calibration.windows is "
                f"{self.calibration.windows}"
            )
        return self

    @property
    def unit_sources(self) -> bool:
        """Say whether the solver's values before rounding are wanted in units of their envelope."""
        return all(tuning.latent.unit for tuning in (self.binarize.codes, self.finetune) if tuning.takes_sources)

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        codes, finetune = self.binarize.codes, self.finetune
        if codes.takes_sources and finetune.takes_sources and codes.latent.unit != finetune.latent.unit:
            raise ValueError("binarize.codes.latent.unit and finetune.latent.unit differ, but they share their start")
        return self

    @model_validator(mode="after")
    def _one_dial(self) -> Self:
        if self.bits_per_weight is not None and self.target_size is not None:
            raise ValueError("bits_per_weight and target_size are one dial; give one of them")
        asks = [place for place, term in self.terms.items() if term.asks]
        if asks and self.bits_per_weight is None and self.target_size is None:
            raise ValueError(f"{asks[0]}.factor.rank is auto, so bits_per_weight or target_size is needed")
        tunings = {
            "binarize.rest": self.binarize.rest,
            "binarize.codes": self.binarize.codes,
            "finetune": self.finetune,
        }
        for key, tuning in tunings.items():
            if tuning.trains and tuning.windows is not None and tuning.windows > self.calibration.windows:
                raise ValueError(
                    f"{key}.windows is {tuning.windows}, but calibration.windows is {self.calibration.windows}"
                )
        return self
