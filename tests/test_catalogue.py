"""The catalogue holds every kind on the menu and nothing else, and hands the options on."""

from typing import get_args

import pytest

from liptt_cli import catalogue
from liptt_cli.menu import binarize, decompose, solvers, tuning


@pytest.mark.parametrize(
    ("model", "field", "table"),
    [
        (decompose.Decompose, "factor", catalogue.FACTORS),
        (binarize.Binarize, "codec", catalogue.CODECS),
        (binarize.Binarize, "solver", catalogue.SOLVERS),
    ],
)
def test_tables_hold_the_menu(model, field, table):
    assert set(get_args(model.model_fields[field].annotation)) == set(table)


def test_objectives_hold_the_menu():
    assert set(get_args(get_args(tuning.Objective)[0])) == set(catalogue.OBJECTIVES)


def test_options_arrive():
    solver = catalogue.solver_of(solvers.Admm(kind="admm", iterations=7, rho="cubic", ridge=0.5))
    assert (solver.iterations, solver.rho, solver.ridge) == (7, "cubic", 0.5)
    codec = catalogue.codec_of(binarize.BinaryCodec(kind="binary", scale=["row"], iterations=3))
    assert (tuple(codec.scale), codec.iterations) == (("row",), 3)
    assert catalogue.codec_of(binarize.FloatCodec(dtype="float32")).dtype == "float32"
    assert catalogue.factor_of(decompose.TensorTrain(kind="tensor_train", start="random")).start_kind == "random"
