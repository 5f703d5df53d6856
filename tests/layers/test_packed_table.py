"""A packed embedding: rows of the matrix behind the blob, in the model's dtype, and refusals of other modules."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from liptt_cli.errors import IntegrityError
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.forms.alphabets import Alphabet
from liptt_cli.layers.packed_table import PackedEmbedding, bytes_a_token, output_dtype, put_dense_tables, put_tables
from liptt_cli.packing.blob import pack, unpack


def table(rows: int, columns: int, alphabet: Alphabet, group_columns: int, *, by_row: bool = True) -> Grid:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    codes = torch.randint(0, 16, (1, rows, columns), dtype=torch.uint8, generator=generator)
    groups = -(-columns // group_columns)
    scales = torch.rand(1, 1, rows if by_row else 1, groups, generator=generator)
    return Grid(codes, Envelope(scales, None, group_columns), None, alphabet).settled()


def filled(value: Grid) -> PackedEmbedding:
    module = PackedEmbedding(value.form, dtype=torch.float32)
    module.weight.copy_(pack(value))
    return module


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    alphabet=st.sampled_from(["int8", "int4", "uint5"]),
    group_columns=st.integers(1, 8),
    by_row=st.booleans(),
)
def test_rows_are_those_of_the_matrix(
    rows: int, columns: int, alphabet: Alphabet, group_columns: int, by_row: bool
) -> None:
    value = table(rows, columns, alphabet, min(group_columns, columns), by_row=by_row)
    ids = torch.arange(2 * rows).reshape(2, rows) * 7 % rows
    assert torch.equal(filled(value)(ids), value.dense()[ids])


def test_it_follows_the_models_dtype_and_its_codes_do_not() -> None:
    module = filled(table(9, 12, "int8", 4))
    before = module.weight.clone()
    for dtype in (torch.bfloat16, torch.float32):
        model = nn.Sequential(copy.deepcopy(module)).to(dtype)
        assert model(torch.tensor([3])).dtype == output_dtype(model[0]) == dtype
        assert torch.equal(model[0].get_parameter("weight"), before)
    assert output_dtype(nn.Embedding(3, 4, dtype=torch.float16)) == torch.float16
    assert bytes_a_token(module) == 12 + 3 * 2 + 1 and bytes_a_token(nn.Embedding(3, 4)) == 16  # 1: the padding's share


class Model(nn.Module):
    """An embedding and a head."""

    def __init__(self, *, bias: bool = False) -> None:
        """Make both."""
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 12), nn.Linear(12, 9, bias=bias)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding."""
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.head


def test_one_form_is_one_parameter_and_a_bias_stays() -> None:
    model, form = Model(bias=True), table(9, 12, "int4", 4).form
    bias = model.head.bias
    put_tables(model, {"embed": form})
    assert model.embed.weight is model.head.weight and model.head.bias is bias
    model.embed.weight.zero_()
    put_dense_tables(model, torch.float32)
    assert model.embed.weight is model.head.weight and torch.equal(model.head.bias, bias)
    assert torch.equal(model.embed.weight, unpack(form, torch.zeros_like(pack(table(9, 12, "int4", 4)))).dense())
    put_dense_tables(model, torch.float32)  # nothing is packed any more
    put_tables(model, {"embed": form, "head": form})
    assert model.embed.weight is not model.head.weight


def test_other_modules_and_shapes_are_refused() -> None:
    with pytest.raises(IntegrityError, match="layers.0: packed as embedding or head"):
        put_tables(Model(), {"embed": table(9, 12, "int4", 4).form, "layers.0": table(9, 12, "int4", 4).form})
    with pytest.raises(IntegrityError, match=r"embed: packed in the shape \(9, 13\)"):
        put_tables(Model(), {"embed": table(9, 13, "int4", 4).form})
