"""The token embedding on its packed bytes, and how it and the head are put into a model.

embedding   the rows of the tokens at hand are unpacked, the others are not looked at
head        a packed linear like any other; with ties its blob is the embedding's, one parameter under both names
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.errors import IntegrityError
from liptt_cli.forms.base import Form, bits_per_weight, blob_bytes
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.packing.blob import unpack, unpack_rows


class PackedEmbedding(nn.Module):
    """A row of W for each token, W being what the bytes of `weight` stand for under `form`; in the model's dtype."""

    def __init__(self, form: Form, *, dtype: torch.dtype) -> None:
        """Make an empty blob of the form's length, on whatever device is the default."""
        super().__init__()
        self.form = form
        self.num_embeddings, self.embedding_dim = form.shape
        self.weight = nn.Parameter(torch.empty(blob_bytes(form), dtype=torch.uint8), requires_grad=False)
        self.dtype = dtype

    def forward(self, ids: Int[Tensor, "*lead"]) -> Float[Tensor, "*lead width"]:
        """Return the rows of the tokens."""
        return unpack_rows(self.form, self.weight, ids.flatten()).to(self.dtype).reshape(*ids.shape, -1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the blob, and take over the dtype that the other modules are cast to."""
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.weight.device)).dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def to_embedding(self, dtype: torch.dtype) -> nn.Embedding:
        """Return the plain embedding with the same meaning."""
        weight = unpack(self.form, self.weight).dense(torch.float32).to(dtype)
        with torch.device("meta"):
            embedding = nn.Embedding(self.num_embeddings, self.embedding_dim, dtype=dtype)
        embedding.weight = nn.Parameter(weight)
        return embedding

    def extra_repr(self) -> str:
        """Say what it is in the print-out of a model."""
        return f"{self.num_embeddings}, {self.embedding_dim}, bits_per_weight={bits_per_weight(self.form):.3f}"


def output_dtype(embedding: nn.Module) -> torch.dtype:
    """Return the dtype of what an embedding returns, packed or not."""
    return embedding.dtype if isinstance(embedding, PackedEmbedding) else embedding.get_parameter("weight").dtype


def bytes_a_token(embedding: nn.Module) -> int:
    """Return how many bytes an embedding reads for one token."""
    if isinstance(embedding, PackedEmbedding):
        return -(-embedding.weight.nbytes // embedding.num_embeddings)
    return embedding.get_parameter("weight")[0].nbytes


def put_tables(model: Any, forms: Mapping[str, Form]) -> None:
    """Put packed modules without content in the place of embedding and head, on the default device.

    One form alone means that they are tied.

    Raises:
        IntegrityError: if a form is of another module, or of another shape.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    paths = {module: path for path, module in model.named_modules()}
    strange = set(forms) - {paths[embedding], paths.get(head)}
    if strange or head is None:
        raise IntegrityError(f"{', '.join(sorted(strange)) or 'a head'}: packed as embedding or head, but is none here")
    only = next(iter(forms.values()))
    shown = forms.get(paths[embedding], only), forms.get(paths[head], only)
    for module, form in zip((embedding, head), shown, strict=True):
        if tuple(module.weight.shape) != form.shape:
            raise IntegrityError(f"{paths[module]}: packed in the shape {form.shape}, but the model has {module}")
    packed = PackedEmbedding(shown[0], dtype=embedding.weight.dtype)
    packed_head = PackedLinear(shown[1], bias=head.bias is not None)
    if head.bias is not None:
        packed_head.bias = head.bias.requires_grad_(False)
    if len(forms) == 1:
        packed_head.weight = packed.weight
    model.set_submodule(paths[embedding], packed)
    model.set_submodule(paths[head], packed_head)


def put_dense_tables(model: Any, dtype: torch.dtype) -> None:
    """Put plain modules of the same meaning in the place of packed embedding and head; tied ones stay tied."""
    if not any(isinstance(module, PackedEmbedding) for module in model.modules()):
        return  # and a model that does not tell its embedding is not asked
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    paths = {module: path for path, module in model.named_modules()}
    plain, plain_head = embedding.to_embedding(dtype), head.to_linear(dtype)
    if head.weight is embedding.weight:
        plain_head.weight = plain.weight
    model.set_submodule(paths[embedding], plain)
    model.set_submodule(paths[head], plain_head)
