"""What other formats hold of a form: blocks that one scale covers, and nothing else."""

import pytest

from drawn import chain_form
from liptt_cli.exports.carrying import (
    Carried,
    compressed_tensors_carried,
    fused_alike,
    gguf_carried,
    why_no_signs,
)
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.zones import sparse_form


def signs(columns: int, group: int | None = None, **more: object) -> GridForm:
    return GridForm((8, columns), scale=EnvelopeForm(8, group or columns), **more)


@pytest.mark.parametrize(
    ("form", "wanted", "written"),
    [
        (signs(512), None, "Q1_0"),
        (signs(512, 128), None, "Q1_0"),
        (signs(512, 256), "TQ1_0", "TQ1_0"),
        (signs(512, 128), "TQ2_0", "Q1_0"),
        (signs(512), "TQ2_0", "TQ2_0"),
        (signs(192), None, "Q4_0"),
        (signs(512, 64), None, "Q4_0"),
        (signs(512, 96), "Q8_0", "Q8_0"),
        (signs(172), None, "F16"),
        (signs(512, 48), None, "F16"),
        (signs(512), "BF16", "Q1_0"),
        (signs(512), "F32", "F32"),
        (GridForm((8, 256)), None, "Q1_0"),
        (GridForm((8, 256), scale=EnvelopeForm(1, 256)), None, "Q1_0"),
        (DenseForm((8, 100), "float16"), None, "F16"),
        (DenseForm((8, 100), "bfloat16"), "Q1_0", "BF16"),
        (DenseForm((8, 100), "float32"), None, "F32"),
        (ZeroForm((8, 100)), None, "F16"),
    ],
)
def test_the_smallest_exact_type_is_taken_or_the_wanted_one(form: GridForm, wanted: str, written: str) -> None:
    found = gguf_carried(form, wanted)
    assert (found.kind, found.type) == ("exact", written)


@pytest.mark.parametrize(
    ("form", "wanted", "words"),
    [
        (signs(192), None, "Q1_0 wants rows of a multiple of 128, not 192"),
        (signs(512, 64), None, "Q1_0 has one scale for 128 columns, not for 64"),
        (signs(512, 128), "TQ2_0", "TQ2_0 has one scale for 256 columns, not for 128"),
        (signs(512), "BF16", "BF16 rounds the float16 scales"),
        (signs(512), None, ""),
    ],
)
def test_a_passed_over_type_is_explained(form: GridForm, wanted: str, words: str) -> None:
    assert gguf_carried(form, wanted).reason == words


LOSSY = {
    "a chain": chain_form((8, 256), (4,)),
    "a sum": SumForm((signs(256), chain_form((8, 256), (4,)))),
    "a zones": sparse_form((8, 256), whole_columns=True, count=3, part=DenseForm((8, 256), "float16")),
    "2 planes": GridForm((8, 256), planes=2, scale=EnvelopeForm(8, 256)),
    "a shift": signs(256, shift=EnvelopeForm(8, 256)),
    "a scale for each column": GridForm((8, 256), scale=EnvelopeForm(8, 256, cols=True)),
}


@pytest.mark.parametrize("words", LOSSY)
def test_nothing_else_is_exact_anywhere(words: str) -> None:
    form = LOSSY[words]
    assert words in why_no_signs(form)
    assert gguf_carried(form).kind == "densified" and gguf_carried(form).type == "F16"
    assert gguf_carried(form, "F32") == Carried("densified", "F32", why_no_signs(form))
    assert gguf_carried(form, "Q8_0").kind == "re-quantised"
    assert gguf_carried(form, "Q1_0").type == "F16"
    assert compressed_tensors_carried(form, "bfloat16") == Carried("densified", "bfloat16", why_no_signs(form))


def test_a_magnitude_of_rank_two_without_columns_is_named() -> None:
    assert why_no_signs(GridForm((8, 16), scale=EnvelopeForm(8, 16, rank=2))) == "a magnitude of rank 2"


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (signs(512), "2-bit/row"),
        (signs(512, 128), "2-bit/128"),
        (signs(192, 128), "2-bit/64"),
        (signs(60), "2-bit/row"),
    ],
)
def test_two_bits_have_a_scale_a_row_or_groups_that_fill_rows(form: GridForm, written: str) -> None:
    assert compressed_tensors_carried(form, "float32") == Carried("exact", written)


def test_groups_that_would_become_tiny_are_densified() -> None:
    found = compressed_tensors_carried(signs(172, 128), "float32")
    assert (found.kind, found.reason) == ("densified", "groups of 128 columns do not end where rows of 172 do")


def test_one_linear_that_differs_costs_those_that_are_fused_with_it() -> None:
    leaves = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ]
    carried = {f"model.layers.{block}.{leaf}": Carried("exact", "2-bit/128") for block in (0, 1) for leaf in leaves}
    carried["model.layers.1.self_attn.k_proj"] = Carried("densified", "float32", "a chain, not one matrix of signs")
    found = fused_alike(carried, "float32")
    lost = [name for name, each in found.items() if each.kind != "exact"]
    assert lost == [f"model.layers.1.{leaf}" for leaf in leaves[:3]]
    assert found[lost[0]].reason == "fused with model.layers.1.self_attn.k_proj, model.layers.1.self_attn.v_proj"
    assert found[lost[1]].reason.startswith("a chain")
