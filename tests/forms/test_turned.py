"""What turns cost: bits by step, additions of the butterflies, and the methods that are made of them."""

import pytest

from liptt_cli.errors import ShapeError
from liptt_cli.forms.base import Operations, bits_per_weight, blob_bytes
from liptt_cli.forms.leaves import EnvelopeForm, GridForm, ZeroForm
from liptt_cli.forms.sum import SumForm
from liptt_cli.forms.turned import StepForm, TurnedForm, check_haar
from liptt_cli.forms.zones import ZonesForm

SHAPE = (4096, 4096)
HAAR = StepForm("haar", 128, 1)
ROWS = StepForm("haar", 2, 1)


def grid(group, *, alphabet="sign", planes=1):
    scale = EnvelopeForm(SHAPE[0], group)
    return GridForm(SHAPE, alphabet, planes, scale, scale)


@pytest.mark.parametrize(
    ("step", "count"),
    [
        (StepForm("signs"), 4096 // 8),
        (StepForm("scale"), 2 * 4096),
        (StepForm("permutation"), 4096 * 12 // 8),
        (StepForm("hadamard", 64), 0),
        (HAAR, 0),
    ],
)
def test_a_step_stores_what_it_needs_and_no_more(step, count):
    inner = grid(128)
    assert blob_bytes(TurnedForm(inner, right=(step,))) == blob_bytes(inner) + count
    assert blob_bytes(TurnedForm(inner, left=(step,))) == blob_bytes(inner) + count


def test_butterflies_are_counted():
    assert StepForm("hadamard", 64).operations(4096) == Operations(6 * 4096, 4096)
    assert HAAR.operations(4096) == Operations(4096, 4096)
    assert StepForm("haar", 128, 3).operations(4096) == Operations(4096 + 2048 + 1024, 4096 + 2048 + 1024)
    inner = grid(128)
    turned = TurnedForm(inner, (ROWS,), (StepForm("signs"), StepForm("scale"), StepForm("permutation")))
    assert turned.operations() == inner.operations() + Operations(2 * 4096, 2 * 4096)


def test_pt2_llm_is_1_85_bits_and_not_1_58():
    turned = TurnedForm(grid(128, alphabet="trit"), right=(StepForm("permutation"),))
    assert bits_per_weight(turned) == pytest.approx(1.6 + 32 / 128 + 12 / 4096, abs=2e-3)


def test_hbllm_by_rows_is_3_bits_and_an_eighth_and_the_salient_columns():
    """The card's 3.25 has a shift for each half of the salient entries; they share one here."""
    salient = 256
    coefficients = TurnedForm(grid(64, planes=2), right=(HAAR,))
    columns = ZonesForm(SHAPE, "column", (salient,), (ZeroForm(SHAPE), grid(128, planes=2)))
    whole = SumForm((coefficients, TurnedForm(columns, left=(ROWS,))))
    expected = 2 + 6 * 16 / 128 + 3 * 16 / 128 + 2 * salient / 4096 + salient * 12 / 4096**2
    assert bits_per_weight(whole) == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(3.25, abs=1e-3)


def test_hbllm_by_columns_is_2_75_bits():
    zones = ZonesForm(SHAPE, "column", (256,), (grid(128, planes=2), grid(128, planes=2)))
    assert bits_per_weight(TurnedForm(zones, left=(ROWS,))) == pytest.approx(2 + 2 * 48 / 128, abs=1e-3)


@pytest.mark.parametrize(("channels", "block", "levels"), [(10, 8, 2), (9, 8, 1)])
def test_a_wavelet_that_does_not_fit_is_refused(channels, block, levels):
    with pytest.raises(ShapeError, match=f"of {channels} channels, which must be a multiple of"):
        check_haar(channels, block=block, levels=levels)
