"""Every byte of the weight files is accounted for, once."""

from pathlib import Path

import pytest

from liptt_cli.forms.base import Form
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import StepForm, TurnedForm
from liptt_cli.forms.zones import sparse_form
from liptt_cli.packing.account import account, describe
from liptt_cli.packing.manifest import read_manifest
from liptt_cli.packing.overlay import Overlay


def test_the_parts_sum_to_the_files(packed_llama: Path) -> None:
    overlay, totals = Overlay.of_packed(packed_llama), read_manifest(packed_llama).totals
    spent = account(packed_llama, overlay)
    assert sum(spent.values()) == totals.file_bytes
    assert sum(spent[kind] for kind in ("codes", "scales", "plain values", "padding")) == totals.payload_bytes
    assert spent["padding"] > 0  # the ranks are odd
    assert spent["kept matrices"] == 4 * 2 * 320 * 32


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (GridForm((4, 8), scale=EnvelopeForm(4, 8, cols=True)), "sign codes, a scale a row and a scale a column"),
        (
            GridForm((4, 8), scale=EnvelopeForm(4, 4), shift=EnvelopeForm(4, 8)),
            "a scale a row, groups of 4 columns, shifted",
        ),
        (GridForm((4, 8)), "sign codes, no scale"),
        (DenseForm((4, 8), "float16"), "plain float16"),
        (GridForm((4, 8), scale=EnvelopeForm(4, 8, cols=True, rank=2)), "sign codes, a magnitude of rank 2"),
        (
            SumForm(
                (GridForm((4, 8)), sparse_form((4, 8), whole_columns=True, count=2, part=DenseForm((4, 8), "float16")))
            ),
            "sign codes, no scale + 2 columns plain float16, the rest zero",
        ),
        (
            ChainForm((4, 8), (4, 1), (1, 8), (3,), (GridForm((4, 3)), GridForm((3, 8))), (True, True, True)),
            "chain of 2 cores, rank 3, modes (4 1) x (1 8)",
        ),
        (
            TurnedForm(GridForm((4, 8)), (StepForm("signs"), StepForm("hadamard", 4)), (StepForm("permutation"),)),
            "sign codes, no scale; turned: outputs by signs, hadamard of 4, inputs by permutation",
        ),
    ],
)
def test_a_form_is_told_in_words(form: Form, words: str) -> None:
    assert words in describe(form)
