"""Options of codecs of a weight itself: pieces that do not go together are refused, with what would."""

from typing import Any

import pytest
from pydantic import ValidationError

from liptt_cli.menu.binarize import Binarize
from liptt_cli.menu.run import RunConfig
from liptt_cli.menu.weight_codecs import GridCodec

SWEEP: dict[str, Any] = {"kind": "column_sweep"}
GRID: dict[str, Any] = {"kind": "grid"}
CHAIN: dict[str, Any] = {"kind": "tensor_train"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": ["row", "group"]}, "one of row, group and tensor"),
        ({"scale": ["row"], "group_columns": 8}, "only a scale by group"),
        ({"scale": ["row", "column"], "alphabet": "trit", "fit": "twn"}, "absmean or rms, not by twn"),
        ({"alphabet": "int4"}, "int4 needs minmax or search"),
        ({"fit": "twn"}, "twn is for trits, not for sign"),
        ({"alphabet": "int4", "planes": 2, "fit": "minmax"}, "one plane is"),
        ({"planes": 2, "fit": "minmax"}, "one plane is"),
        ({"alphabet": "uint4", "fit": "minmax"}, "set shift: true, or an int alphabet"),
        ({"alphabet": "bit", "fit": "minmax"}, "no level below zero"),
        ({"alphabet": "int4", "fit": "search", "search_range": [1.0, 0.5]}, "must ascend"),
    ],
)
def test_grids_that_nothing_can_fit_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        GridCodec.model_validate(GRID | options)


def test_columns_that_share_a_scale():
    found = [
        GridCodec.model_validate(GRID | more) for more in ({}, {"group_columns": 32}, {"scale": ["row", "column"]})
    ]
    assert [each.columns_a_scale for each in found] == [128, 32, None]
    assert [GridCodec(kind="grid", scale=[each]).by_row for each in ("row", "group", "column", "tensor")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("binarize", "message"),
    [
        ({"codec": GRID, "solver": {"kind": "admm"}}, "codec grid needs solver direct or column_sweep, not admm"),
        ({"codec": {"kind": "binary"}, "solver": SWEEP, "metric": {"cols": "full"}}, "such as grid, not binary"),
        ({"codec": GRID, "solver": SWEEP}, "metric.cols is none; use full"),
        ({"codec": GRID, "solver": SWEEP, "metric": {"cols": "diagonal"}}, "metric.cols is diagonal; use full"),
        ({"codec": GRID, "solver": SWEEP | {"order": "activation", "within": False}}, "set within: true"),
        ({"residual": [{"codec": GRID, "factor": CHAIN}]}, "use it with factor: {kind: identity}"),
        ({"residual": [{"codec": GRID, "solver": SWEEP}]}, "metric.cols is none; use full"),
    ],
)
def test_solvers_that_do_not_fit_a_codec_are_refused(binarize: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        RunConfig.model_validate({"method": "mine", "binarize": binarize})


def test_a_grid_is_no_core_of_a_chain():
    with pytest.raises(ValidationError, match="codec grid encodes a weight itself"):
        RunConfig.model_validate(
            {"method": "mine", "bits_per_weight": 1, "decompose": {"factor": CHAIN}, "binarize": {"codec": GRID}}
        )


def test_a_sweep_of_grids_is_fine():
    assert Binarize.model_validate({"codec": GRID, "solver": SWEEP, "metric": {"cols": "full"}}).solver.within
