"""A codec in other coordinates is a turn, the inner codec on bands, and the turn back."""

import pytest
import torch

from drawn import gram, normal
from liptt_cli.algebra.codecs.grid import GridCodec
from liptt_cli.algebra.codecs.turned import TurnedCodec
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.column_sweep import ColumnSweepSolver
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.algebra.transforms.haar import HaarTransform
from liptt_cli.formats.pieces import compact

ROWS, COLUMNS, BLOCK = 6, 40, 16
WEIGHT = normal(ROWS, COLUMNS)
GRID = GridCodec("sign", 2, shift=True, group_columns=BLOCK // 2, rule="split")
INPUTS = TurnedCodec(HaarTransform("in", BLOCK).turn, GRID, BLOCK, BLOCK // 2)
OUTPUTS = TurnedCodec(HaarTransform("out", 2).turn, GRID)
METRIC = Metric(cols=gram(COLUMNS))
SOLVERS = [DirectSolver(), ColumnSweepSolver(BLOCK, within=False), ColumnSweepSolver(BLOCK)]


@pytest.mark.parametrize("codec", [INPUTS, OUTPUTS])
def test_without_correlations_it_is_the_inner_codec_on_the_turned_weight(codec):
    turn = codec.turn
    found = DirectSolver().encode(WEIGHT, codec=codec, metric=Metric()).piece
    inner = DirectSolver().encode(turn.forward(WEIGHT), codec=GRID, metric=Metric()).piece
    torch.testing.assert_close(compact(found).dense(torch.float64), turn.wrap(compact(inner)).dense(torch.float64))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("codec", [INPUTS, OUTPUTS])
def test_every_solver_stores_bands_of_one_width(codec, solver):
    value = compact(solver.encode(WEIGHT, codec=codec, metric=METRIC).piece).settled()
    assert value.inner.scale.form.group_columns == BLOCK // 2
    assert value.inner.scale.rows.shape == (2, 1, ROWS, COLUMNS // (BLOCK // 2))
    assert (len(value.left), len(value.right)) == ((0, 1) if codec is INPUTS else (1, 0))
    assert float(METRIC.error(WEIGHT - value.dense(torch.float64)).sum() / METRIC.error(WEIGHT).sum()) < 0.2


def test_columns_of_turned_outputs_are_rounded_one_by_one():
    fit = OUTPUTS.fit(WEIGHT[:, :BLOCK], metric=Metric())
    whole = fit.round(WEIGHT[:, :BLOCK]).dense(torch.float64)
    ranges = [fit.round(WEIGHT[:, a:b], start=a).dense(torch.float64) for a, b in ((0, 3), (3, 9), (9, BLOCK))]
    torch.testing.assert_close(torch.cat(ranges, dim=1), whole)
    assert (OUTPUTS.step_columns, INPUTS.step_columns) == (1, None)


def test_entries_elsewhere_do_not_count():
    where = torch.zeros(ROWS, BLOCK, dtype=torch.bool)
    where[:, 2:9] = True
    other = torch.where(where, WEIGHT[:, :BLOCK], 7.0)
    one, again = (
        OUTPUTS.fit(v, metric=Metric(), where=where).round(WEIGHT[:, :BLOCK]) for v in (WEIGHT[:, :BLOCK], other)
    )
    torch.testing.assert_close(one.dense(torch.float64), again.dense(torch.float64))
