"""What HBLLM (arXiv:2512.00862) claims, on small layers; where a claim does not hold, the test says what does.

At equal bits of each band a wavelet gains nothing from smooth rows: either way a coefficient is rounded to the same
share of its band's size. It gains where a few entries are large, since sums of two have lighter tails.
"""

from functools import cache

import pytest
import torch

from drawn import gram, normal, seeded
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.codecs.turned import TurnedCodec
from liptt_cli.algebra.compose import compress
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.algebra.transforms.haar import HaarTransform
from liptt_cli.config import load_config
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.planning.price import ladder
from liptt_cli.stages.fit import linear_plan

ROWS, COLUMNS = 96, 256
SPLIT = GridCodec("sign", 2, shift=True, group_columns=64, rule="split")
SIGNS = GridCodec("sign", 1, shift=True, group_columns=64)


def error(weight, codec):
    found = DirectSolver().encode(weight, codec=codec, metric=Metric()).piece.dense(weight.dtype)
    return float((weight - found).square().sum() / weight.square().sum())


def in_bands(grid):
    return TurnedCodec(HaarTransform("in", 128).turn, grid, 128, 64)


@cache
def solved(method, *overrides):
    """A layer with outliers: a few large entries, a few loud columns, and inputs with loud channels."""
    loud = torch.ones(COLUMNS, dtype=torch.float64)
    loud[5::50] = 4
    weight = normal(ROWS, COLUMNS) * (1 + 6 * (normal(ROWS, COLUMNS, seed=1) > 2)) * loud
    config = load_config(f"methods/{method}", overrides=list(overrides)).config
    plan = linear_plan(config, ladder(config, (ROWS, COLUMNS)).forms[0])
    found = compress(weight.float(), plan=plan, metric=Metric(cols=gram(COLUMNS).float()), generator=seeded())
    return found, bits_per_weight(found.value.form)


@pytest.mark.parametrize("grid", [SPLIT, SIGNS], ids=["split", "signs"])
def test_bands_help_where_a_few_entries_are_large(grid):
    weight = normal(ROWS, COLUMNS).pow(3)
    assert error(weight, in_bands(grid)) < 0.92 * error(weight, grid)


@pytest.mark.parametrize("grid", [SPLIT, SIGNS], ids=["split", "signs"])
def test_bands_do_not_help_where_rows_are_smooth(grid):
    weight = torch.nn.functional.avg_pool1d(normal(ROWS, 1, COLUMNS + 3), 4, 1).squeeze(1)
    assert error(weight, in_bands(grid)) > 1.02 * error(weight, grid)


def test_two_magnitudes_for_each_row_and_band_are_better_than_billm_s_for_all_rows():
    (columns, bits), (billm, billm_bits) = solved("hbllm-col"), solved("billm")
    assert columns.error < 0.8 * billm.error
    assert bits < billm_bits + 0.3


def test_by_columns_it_is_better_than_billm_at_fewer_bits():
    groups = [f"binarize.codec.inner.parts.{zone}.group_columns=256" for zone in ("rest", "salient")]
    (columns, bits), (billm, billm_bits) = solved("hbllm-col", *groups), solved("billm")
    assert bits < billm_bits
    assert columns.error < 0.9 * billm.error


def test_by_rows_it_is_better_than_by_columns_and_dearer():
    (rows, bits), (columns, fewer) = solved("hbllm"), solved("hbllm-col")
    assert bits > fewer
    assert rows.error < columns.error


def test_salient_columns_that_are_filled_in_pay_for_what_their_first_code_no_longer_holds():
    """A second code on what the first one holds already is worth more than a clean band: the paper's fill costs."""
    assert solved("hbllm", "binarize.codec.fill_columns=null")[0].error < solved("hbllm")[0].error
