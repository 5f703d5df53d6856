"""A model that is never in memory as a whole: a skeleton on meta, and one block at a time from the shards.

Blocks are handed out as fresh modules that are real only while the caller works on them, so the peak is one block and
the embeddings. The first hidden states of `calls`, pushed through all blocks and through `logits`, give the whole
model's logits bit for bit.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.errors import ModelError
from liptt_cli.models.blocks import Structure, describe, find_block_list
from liptt_cli.models.calls import extras_of, handing_on, hidden_of, record
from liptt_cli.models.experts import unfold
from liptt_cli.models.hub import Source, Tokenizer, empty_model, load_tokenizer
from liptt_cli.models.shards import Shards
from liptt_cli.models.tables import find_tables
from liptt_cli.planning.tables import TableShape

PROBE_TOKENS = 4

Tied = tuple[str, ...]


class Place(NamedTuple):
    """Where a parameter was put, so that it can be taken back."""

    owner: nn.Module
    leaf: str
    parameter: nn.Parameter


class StreamedModel:
    """A causal language model whose blocks are read when their turn comes."""

    def __init__(self, source: Source, *, dtype: torch.dtype, trust_remote_code: bool = False) -> None:
        """Build the skeleton and read the shards' headers; no weights are read yet.

        Args:
            source: where the model lies.
            dtype: of all floating-point weights in memory.
            trust_remote_code: whether code in the model's directory may run.

        Raises:
            ModelError: if the directory cannot be read as a model, or no blocks are found in it.
        """
        self.source = source
        self.shards = Shards(source.path)
        self.dtype = dtype
        self._skeleton = empty_model(source, dtype=dtype, trust_remote_code=trust_remote_code)
        self.config = self._skeleton.config
        if getattr(self.config, "quantization_config", None) is not None:
            raise ModelError(
                f"{source.path}: this model is quantised or packed already (config.json has a quantization_config); "
                "compress the model that it was made from."
            )
        unfold(self._skeleton, self.shards.names())
        self._block_path, self._blocks = find_block_list(self._skeleton)
        self._outside: list[Place] = []
        self._filled: set[str] = set()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return load_tokenizer(self.source)

    @cached_property
    def structure(self) -> Structure:
        """Blocks and sites, found by running a zero block of each layout on a few tokens.

        It runs as in training, where experts are called that no token was sent to.
        """
        hidden, arguments = self.calls(self._probe_ids())

        def run(number: int, block: nn.Module) -> None:
            with torch.enable_grad():
                self.run_block(_zeros_like(block).requires_grad_(True), hidden, arguments[number])

        return describe(self._skeleton, run)

    @property
    def tables(self) -> tuple[TableShape, ...]:
        """Embedding and head.

        Raises:
            ModelError: if one is no plain embedding or linear.
        """
        return find_tables(self._skeleton, self.shards)

    def calls(
        self, ids: Int[Tensor, "batch tokens"]
    ) -> tuple[Float[Tensor, "batch tokens width"], list[dict[str, Any]]]:
        """Run the model's own forward up to the blocks, and record how it calls each of them.

        Args:
            ids: token ids, without padding.

        Returns:
            The hidden states that enter the first block, and each block's other arguments by name (masks, positions).
            The arguments serve every batch of the same shape.
        """
        self._fill_outside(head=False)
        recording = record(list(self._blocks), lambda: self._forward(ids), extras=self._extras)
        return recording.hidden[0], recording.arguments

    @contextmanager
    def block(self, number: int) -> Iterator[nn.Module]:
        """Read a block's weights and lend it as a fresh module, frozen and in eval mode.

        On exit the weights that were read go back to meta; modules that the caller swapped in stay as they are.

        Raises:
            ModelError: if a weight is missing or has another shape than the configuration says.
            IntegrityError: if a weight is NaN or Inf.
        """
        lent = copy.deepcopy(self._blocks[number], {id(self.config): self.config})
        places = self._fill(lent, self._ties(lent, f"{self._block_path}.{number}."), f"{self._block_path}.{number}.")
        try:
            yield lent
        finally:
            _take_back(places)

    def run_block(
        self, block: nn.Module, hidden: Float[Tensor, "batch tokens width"], arguments: dict[str, Any]
    ) -> Float[Tensor, "batch tokens width"]:
        """Run a block on hidden states with the arguments that `calls` recorded for it; gradients flow if wanted."""
        return hidden_of(block(hidden, **arguments))

    def logits(
        self, ids: Int[Tensor, "batch tokens"], hidden: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Run what follows the blocks, final norm and head, on the last block's hidden states.

        Gradients flow to the hidden states if they want them.

        Args:
            ids: the token ids from which `hidden` came.
            hidden: what the last block returned.
        """
        extras = self._extras
        self._fill_outside(head=True)
        with handing_on(list(self._blocks), hidden, extras=extras):
            logits: Tensor = self._forward(ids, grad=hidden.requires_grad).logits
        return logits

    def release(self) -> None:
        """Give back the memory of embeddings, norm and head; they are read again when they are needed."""
        _take_back(self._outside)
        self._outside = []
        self._filled = set()

    def block_parameter_names(self, number: int) -> tuple[str, ...]:
        """Return the names of a block's stored tensors, as the model calls them."""
        prefix = f"{self._block_path}.{number}."
        return self._stored(self._ties(self._blocks[number], prefix))

    def outside_names(self) -> tuple[str, ...]:
        """Return the names of the stored tensors outside of the blocks; of tied ones only what is stored."""
        return self._stored(self._outside_ties())

    @cached_property
    def _extras(self) -> tuple[Any, ...] | None:
        """What blocks return behind the hidden states; None if they return a bare tensor."""
        self._fill_outside(head=False)
        first = record(list(self._blocks)[:1], lambda: self._forward(self._probe_ids()), extras=None)
        with torch.no_grad():
            return extras_of(_zeros_like(self._blocks[0])(first.hidden[0], **first.arguments[0]))

    @cached_property
    def _head_path(self) -> str | None:
        head = self._skeleton.get_output_embeddings()
        return next((path for path, module in self._skeleton.named_modules() if module is head), None)

    def _forward(self, ids: Int[Tensor, "batch tokens"], *, grad: bool = False) -> Any:
        parameters = inspect.signature(self._skeleton.forward).parameters.values()
        takes_cache = any(each.name == "use_cache" or each.kind is each.VAR_KEYWORD for each in parameters)
        with torch.set_grad_enabled(grad):
            return self._skeleton(input_ids=ids, **({"use_cache": False} if takes_cache else {}))

    def _probe_ids(self) -> Int[Tensor, "batch tokens"]:
        return torch.zeros(1, PROBE_TOKENS, dtype=torch.int64)

    def _fill_outside(self, *, head: bool) -> None:
        """Read what lies outside of the blocks and was not read yet, the head only if it is wanted."""
        empty = [tied for tied in self._outside_ties() if not self._filled.issuperset(tied)]
        if not head and self._head_path is not None:
            empty = [tied for tied in empty if not all(name.startswith(f"{self._head_path}.") for name in tied)]
        self._outside += self._fill(self._skeleton, empty, "")
        self._filled.update(name for tied in empty for name in tied)

    def _outside_ties(self) -> list[Tied]:
        ties = self._ties(self._skeleton, "")
        return [tied for tied in ties if not tied[0].startswith(f"{self._block_path}.")]

    def _ties(self, module: nn.Module, prefix: str) -> list[Tied]:
        """Group the names of a module's tensors that are one: parameters, and persistent buffers if they are stored."""
        names: dict[int, list[str]] = {}
        for path, parameter in module.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(prefix + path)
        known = {path for path, _ in module.named_buffers()}
        buffers = [prefix + path for path in module.state_dict() if path in known]
        return [tuple(group) for group in names.values()] + [(name,) for name in buffers if name in self.shards]

    def _stored(self, ties: Sequence[Tied]) -> tuple[str, ...]:
        """Return the stored names; one that should be stored and is not stays in, so that reading it is refused."""
        return tuple(name for tied in ties for name in ([each for each in tied if each in self.shards] or tied[:1]))

    def _fill(self, module: nn.Module, ties: Sequence[Tied], prefix: str) -> list[Place]:
        """Read tensors and put them into a module; tied ones stay one unless the file holds different values."""
        values = self.shards.read(self._stored(ties), dtype=self.dtype)
        places: list[Place] = []
        for tied in ties:
            held = [values[name] for name in tied if name in values]
            agree = all(torch.equal(held[0], other) for other in held[1:])
            shared = nn.Parameter(held[0], requires_grad=False) if held[0].is_floating_point() else held[0]
            for name in tied:
                own = shared if agree or name not in values else nn.Parameter(values[name], requires_grad=False)
                places += self._put(module, name.removeprefix(prefix), own)
        return places

    def _put(self, module: nn.Module, path: str, value: Tensor) -> list[Place]:
        owner, leaf = _owner(module, path)
        old = _tensor(module, path)
        if old.shape != value.shape:
            raise ModelError(
                f"{self.source.path}: tensor {path!r} has shape {tuple(value.shape)}, config.json wants "
                f"{tuple(old.shape)}; the weights belong to another configuration, or are packed already."
            )
        if leaf in owner._buffers:
            owner._buffers[leaf] = value.detach().to(old.dtype)
            return []
        if not isinstance(value, nn.Parameter):
            raise ModelError(
                f"{self.source.path}: tensor {path!r} holds {value.dtype}, not weights; is it packed already?"
            )
        owner._parameters[leaf] = value
        return [Place(owner, leaf, value)]


def _owner(module: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, leaf = path.rpartition(".")
    return module.get_submodule(parent), leaf


def _tensor(module: nn.Module, path: str) -> Tensor:
    owner, leaf = _owner(module, path)
    tensor = {**owner._buffers, **owner._parameters}[leaf]
    if tensor is None:
        raise ModelError(f"{path} is not a tensor of {type(module).__name__}")
    return tensor


def _take_back(places: Sequence[Place]) -> None:
    """Put parameters back on meta, each only where it still stands; tied ones stay one."""
    metas: dict[int, nn.Parameter] = {}
    for owner, leaf, parameter in places:
        if owner._parameters.get(leaf) is parameter:
            meta = metas.setdefault(id(parameter), nn.Parameter(parameter.to("meta"), requires_grad=False))
            owner._parameters[leaf] = meta


def _zeros_like(block: nn.Module) -> nn.Module:
    """Return a real copy of a block with all parameters zero."""
    zero = copy.deepcopy(block)
    for owner in zero.modules():
        for leaf, parameter in owner._parameters.items():
            if parameter is not None:
                owner._parameters[leaf] = nn.Parameter(torch.zeros_like(parameter, device="cpu"), requires_grad=False)
    return zero
