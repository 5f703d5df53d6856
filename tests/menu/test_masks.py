"""Options of masks and zones: what does not go together is refused, with what would."""

import pytest
from pydantic import ValidationError

from liptt_cli.config import load_config
from liptt_cli.errors import ConfigError
from liptt_cli.menu.binarize import Term
from liptt_cli.menu.masks import MagnitudeSplit, NOfM
from liptt_cli.menu.weight_codecs import ResidualCodec, ZonesCodec

SIGNS = {"kind": "grid", "alphabet": "sign"}
INTEGERS = {"kind": "grid", "alphabet": "int4", "fit": "minmax"}
SPLIT = {"kind": "magnitude_split", "grid": 9}
SALIENT = {"kind": "salient_columns", "most": 9}


def zones(mask, **parts):
    return {"kind": "zones", "mask": mask, "parts": parts}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (zones(SPLIT, low=SIGNS), "zones of mask magnitude_split: .'low', 'high'"),
        (zones(SPLIT | {"ratio": 2.0}, low=SIGNS, high=SIGNS), "'low', 'middle', 'high'"),
        (zones(SALIENT, rest=INTEGERS, salient=SIGNS), "parts.rest: .* judged by signs, not by int4"),
        (zones(SALIENT | {"judge": "output_kl"}, rest=SIGNS, salient=SIGNS), "judge: output_kl"),
        (
            zones(SALIENT, rest=zones(SPLIT | {"scope": "weight"}, low=SIGNS, high=SIGNS), salient=SIGNS),
            "only the outermost zones can",
        ),
        (
            zones(
                SALIENT,
                rest=zones({"kind": "n_of_m", "keep": 2, "of": 4, "scope": "fit"}, pruned={"kind": "zero"}, kept=SIGNS),
                salient=SIGNS,
            ),
            "n_of_m .* only the outermost",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(record, message):
    with pytest.raises(ValidationError, match=message):
        ZonesCodec.model_validate(record)


def test_thresholds_ascend_and_something_is_pruned():
    with pytest.raises(ValidationError, match="ascend"):
        MagnitudeSplit(kind="magnitude_split", low=0.9, high=0.1)
    with pytest.raises(ValidationError, match="prunes nothing"):
        NOfM(kind="n_of_m", keep=4, of=4)


def test_columns_of_a_residual_are_not_mixed():
    turned = {"kind": "turned", "transform": {"kind": "haar"}, "inner": SIGNS | {"group_columns": 64}}
    with pytest.raises(ValidationError, match="parts.1: a turn of the inputs"):
        ResidualCodec.model_validate({"kind": "residual", "mask": SALIENT, "parts": [SIGNS, turned]})
    with pytest.raises(ValidationError, match="only columns that a mask chooses"):
        ResidualCodec.model_validate({"kind": "residual", "fill_columns": 7, "parts": [SIGNS, SIGNS]})


def test_a_score_of_pivots_needs_a_sweep():
    codec = zones(SALIENT | {"score": "obs"}, rest=SIGNS, salient=SIGNS)
    with pytest.raises(ValidationError, match="solver column_sweep alone computes"):
        Term.model_validate({"codec": codec, "solver": {"kind": "direct"}})


def test_an_unknown_key_inside_of_parts_is_met_with_the_known_ones():
    with pytest.raises(ConfigError, match="parts.rest.mask.grids: unknown key. Did you mean 'grid'"):
        load_config("methods/billm", overrides=["binarize.codec.parts.rest.mask.grids=3"])
