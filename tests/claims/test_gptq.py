"""What GPTQ, ARB-LLM and PT2-LLM claim of pushed errors and refitted scales, as inequalities on one small layer.

Relative squared errors of the output (in the inputs' moment) and of the weight itself, an LLM-like 96 x 128 weight,
groups of 32; `outliers`: every sixteenth input ten times as large. Margins are about half of what is seen.
"""

from functools import cache

import pytest
import torch

from drawn import gram, llm_like
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import codec_of, solver_of
from liptt_cli.menu.solvers import ColumnSweep, Direct
from liptt_cli.menu.weight_codecs import GridCodec, Refit

ROWS, COLUMNS, GROUP = 96, 128, 32
LOUD = torch.ones(COLUMNS).index_fill(0, torch.arange(0, COLUMNS, 16), 10.0)
GRAM = gram(COLUMNS, dtype=torch.float32)
LAYERS = {
    "plain": (llm_like(ROWS, COLUMNS), GRAM),
    "outliers": (llm_like(ROWS, COLUMNS) / LOUD.sqrt(), GRAM * torch.outer(LOUD, LOUD)),
}


def plain(iterations=15):
    return Refit(iterations=iterations)


def weighed():
    return Refit(metric="full", codes=False)


CODECS = {
    "int4": {"alphabet": "int4", "fit": "minmax"},
    "uint2": {"alphabet": "uint2", "fit": "minmax", "shift": True},
    "uint2, searched": {"alphabet": "uint2", "fit": "search", "shift": True},
    "sign": {},
    "trit": {"alphabet": "trit", "fit": "twn"},
    "two planes": {"planes": 2, "shift": True},
    "sign and shift": {"shift": True},
    "ARB": {"shift": True, "refit": [plain()]},
    "ARB-X": {"shift": True, "refit": [plain(), weighed()]},
    "ARB by row": {"shift": True, "scale": ["row"], "refit": [plain()]},
    "ARB-RC": {"scale": ["row", "column"], "refit": [plain()]},
    "ternary": {"alphabet": "trit", "fit": "twn", "shift": True},
    "ITF": {"alphabet": "trit", "fit": "twn", "shift": True, "refit": [plain(10)]},
    "AGA": {"alphabet": "trit", "fit": "twn", "shift": True, "refit": [plain(10), weighed()]},
}
SOLVERS = {
    "direct": Direct(),
    "column": ColumnSweep(kind="column_sweep", sweep_columns=GROUP),
    "activation": ColumnSweep(kind="column_sweep", sweep_columns=GROUP, order="activation"),
    "block": ColumnSweep(kind="column_sweep", sweep_columns=GROUP, within=False),
    "joint": ColumnSweep(kind="column_sweep", sweep_columns=GROUP, within=False, joint_errors=True),
}


@cache
def errors(codec, solver="direct", layer="plain"):
    """The error of the output and that of the weight."""
    scale = CODECS[codec].get("scale", ["group"])
    groups = {"group_columns": GROUP} if "group" in scale else {}
    record = GridCodec(kind="grid", **{"scale": scale, **groups, **CODECS[codec]})
    weight, moment = LAYERS[layer]
    found = solver_of(SOLVERS[solver]).encode(weight, codec=codec_of(record), metric=Metric(cols=moment))
    error = weight - found.piece.dense()
    return tuple(float(m.error(error).sum() / m.error(weight).sum()) for m in (Metric(cols=moment), Metric()))


def output(codec, solver="direct", layer="plain"):
    return errors(codec, solver, layer)[0]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("codec", ["int4", "uint2", "trit", "two planes"])
def test_pushed_errors_cost_the_weight_and_help_the_output(codec, layer):
    direct, swept = (errors(codec, solver, layer) for solver in ("direct", "column"))
    assert swept[1] > 2 * direct[1]
    assert swept[0] < 0.75 * direct[0]


@pytest.mark.parametrize("codec", ["trit", "two planes"])
def test_a_block_at_once_lies_between_rounding_and_column_by_column(codec):
    assert output(codec, "column") < 0.8 * output(codec, "block") < 0.8 * 0.95 * output(codec)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("codec", ["sign", "uint2", "two planes", "ARB-X", "AGA"])
def test_what_is_exact_for_a_block_is_better_than_the_papers_formula(codec, layer):
    assert output(codec, "joint", layer) < 0.85 * output(codec, "block", layer)


@pytest.mark.parametrize("codec", ["int4", "uint2"])
def test_the_loud_inputs_first_where_there_are_some(codec):
    assert output(codec, "activation", "outliers") < 0.7 * output(codec, "column", "outliers")


def test_one_bit_collapses_where_inputs_have_outliers():
    assert output("sign", "column", "outliers") > 1 > output("sign", "column")


@pytest.mark.parametrize("solver", ["direct", "column"])
def test_a_searched_range_is_better_at_two_bits(solver):
    assert output("uint2, searched", solver) < 0.8 * output("uint2", solver)


def test_alternation_helps_the_weight_and_the_whole_moment_the_output():
    """ARB against the start that it shares with BiLLM, then ARB-X."""
    start, arb, weighed = (errors(codec) for codec in ("sign and shift", "ARB", "ARB-X"))
    assert arb[1] < 0.97 * start[1]
    assert weighed[0] < 0.8 * arb[0]
    assert weighed[1] > arb[1]


@pytest.mark.parametrize("layer", LAYERS)
def test_scales_of_rows_and_columns_beat_those_of_rows_where_columns_differ(layer):
    assert output("ARB-RC", "direct", layer) < 0.85 * output("ARB by row", "direct", layer)
    assert output("ARB-RC", "column", layer) < 0.9 * output("ARB by row", "column", layer)


def test_ternary_fitting_helps_the_weight_and_alignment_the_output():
    """ITF against its start, then AGA, of PT2-LLM."""
    start, itf, aga = (errors(codec) for codec in ("ternary", "ITF", "AGA"))
    assert itf[1] < 0.95 * start[1]
    assert aga[0] < 0.8 * itf[0]
