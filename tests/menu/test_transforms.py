"""What transforms and turned codecs are refused for, in words."""

import pytest
from pydantic import ValidationError

from liptt_cli.menu.binarize import Binarize, Term
from liptt_cli.menu.masks import SalientColumns
from liptt_cli.menu.transforms import Haar, Hadamard, Scale
from liptt_cli.menu.weight_codecs import GridCodec, TurnedCodec, ZonesCodec


def grid(**more):
    return GridCodec(kind="grid", **more)


def zones(score="magnitude", group=64):
    parts = {name: grid(group_columns=group) for name in ("rest", "salient")}
    return ZonesCodec(kind="zones", mask=SalientColumns(kind="salient_columns", score=score), parts=parts)


def turned(inner, **haar):
    return TurnedCodec(kind="turned", transform=Haar(kind="haar", **haar), inner=inner)


def test_scales_by_activations_need_them_seen():
    with pytest.raises(ValidationError, match=r"metric.cols is none; use diagonal or full, or exponent: 0"):
        Binarize(transforms=[Hadamard(kind="hadamard"), Scale(kind="scale")])
    assert Binarize(transforms=[Scale(kind="scale", exponent=0.0, weight_exponent=0.5)]).transforms


@pytest.mark.parametrize("inner", [grid(), grid(scale=["row"]), zones(group=128), grid(group_columns=48)])
def test_a_band_has_scales_of_its_own(inner):
    with pytest.raises(ValidationError, match="columns share a scale, but a band of the wavelet has 64"):
        turned(inner)
    assert turned(inner, side="out").inner == inner


def test_columns_that_are_mixed_have_no_pivots():
    with pytest.raises(ValidationError, match="obs divides by pivots, which columns that are mixed do not have"):
        turned(zones("obs"))
    assert turned(zones("obs"), side="out").divides_by_pivots
    with pytest.raises(ValidationError, match="divides by pivots, which solver column_sweep alone computes"):
        Term(codec=turned(zones("obs"), side="out"))


@pytest.mark.parametrize(("block", "levels"), [(6, 2), (127, 1)])
def test_a_block_divides_into_its_levels(block, levels):
    with pytest.raises(ValidationError, match=f"{block} does not divide into {levels} levels"):
        turned(grid(group_columns=1), block=block, levels=levels)


@pytest.mark.parametrize("more", [{"planes": 1}, {"planes": 2, "alphabet": "trit"}, {"planes": 2, "scale": ["tensor"]}])
def test_the_split_is_two_planes_of_signs_in_each_row(more):
    with pytest.raises(ValidationError, match="fit: split is two planes of signs"):
        grid(fit="split", **more)
