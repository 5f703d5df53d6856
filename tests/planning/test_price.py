"""Ladders: which forms a recipe can give a shape, ascending in bytes, each under what the options ask for."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liptt_cli.errors import ShapeError
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import bits_per_weight, blob_bytes
from liptt_cli.forms.chain import ChainForm
from liptt_cli.forms.leaves import DenseForm, EnvelopeForm, GridForm
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.price import Ladder, ladder
from liptt_cli.tensors.modes import bond_caps

BINARY = {"kind": "binary", "scale": ["axes"]}
SPARSE = {"kind": "sparse", "mask": {"kind": "top_share", "share": 0.1}}


def config(factor: dict[str, Any] | None = None, codec: dict[str, Any] | None = None) -> RunConfig:
    tree: dict[str, Any] = {"method": "mine", "bits_per_weight": 1.0}
    if factor is not None:
        tree["decompose"] = {"factor": {"kind": "tensor_train", **factor}}
    return RunConfig.model_validate(tree | ({"binarize": {"codec": codec}} if codec else {}))


@pytest.mark.parametrize(
    ("scale", "envelope"),
    [
        (["row"], EnvelopeForm(12, 20, False)),
        (["column"], EnvelopeForm(1, 20, True)),
        (["row", "column"], EnvelopeForm(12, 20, True)),
        (["axes"], EnvelopeForm(12, 20, True)),
    ],
)
def test_a_recipe_without_a_factor_has_one_form(scale: list[str], envelope: EnvelopeForm):
    assert ladder(config(codec={"kind": "binary", "scale": scale}), (12, 20)).forms == (
        GridForm((12, 20), scale=envelope),
    )


@pytest.mark.parametrize(("given", "group"), [({}, 20), ({"group_columns": 8}, 8), ({"group_columns": 32}, 20)])
def test_groups_of_columns_have_a_scale_in_each_row(given: dict[str, int], group: int):
    (form,) = ladder(config(codec={"kind": "binary", "scale": ["group"], **given}), (12, 20)).forms
    assert form == GridForm((12, 20), scale=EnvelopeForm(12, group))
    assert blob_bytes(form) == 12 * 3 + 12 + 2 * 12 * -(-20 // group)  # codes, padding to 48, scales


def test_floats_stay_floats():
    assert ladder(config(), (4, 6)).forms == (DenseForm((4, 6), "float16"),)
    (form,) = ladder(config({"rank": 3}, {"kind": "float", "dtype": "float32"}), (4, 6)).forms
    assert isinstance(form, ChainForm)
    assert form.cores == (DenseForm((4, 3), "float32"), DenseForm((3, 6), "float32"))
    assert form.scales == (False, False, False)


SHAPES = st.tuples(st.sampled_from([16, 24, 32, 36, 64, 96]), st.sampled_from([16, 32, 40, 48, 64, 128]))


@settings(max_examples=40, deadline=None)
@given(
    shape=SHAPES,
    start=st.sampled_from(["svd", "random"]),
    layout=st.sampled_from(["split", "mpo"]),
    cores=st.integers(2, 4),
    codec=st.sampled_from([BINARY, {"kind": "float"}]),
)
def test_ladders_ascend_and_stay_under_their_caps(shape, start, layout, cores, codec):
    factor = {"start": start, "layout": layout, "cores": cores}
    try:
        found = ladder(config(factor, codec), shape)
    except ShapeError:
        return
    assert list(found.bytes) == [blob_bytes(form) for form in found.forms]
    assert list(found.bytes) == sorted(set(found.bytes))
    widest = 0
    for form in found.forms:
        assert isinstance(form, ChainForm)
        caps = bond_caps(form.out_modes, form.in_modes)
        allowed = 2 if start == "random" and cores == 2 else 1
        assert all(1 <= rank <= allowed * cap for rank, cap in zip(form.ranks, caps, strict=True))
        assert max(form.ranks) > widest
        widest = max(form.ranks)


def test_padding_gives_a_higher_rank_for_nothing():
    one, two = (ladder(config({"rank": rank}, BINARY), (32, 64)).forms[0] for rank in (1, 2))
    assert blob_bytes(one) == blob_bytes(two) == ladder(config({}, BINARY), (32, 64)).bytes[0]


def test_the_ladder_reaches_an_exact_rank_and_twice_it_for_signs_that_are_fitted():
    assert ladder(config({"start": "svd"}, BINARY), (32, 64)).forms[-1].ranks == (32,)
    assert ladder(config({"start": "random"}, BINARY), (32, 64)).forms[-1].ranks == (64,)
    assert ladder(config({"start": "random"}, BINARY), (36, 64)).forms[-1].ranks == (72,)
    assert [form.ranks[0] for form in ladder(config({}, BINARY), (32, 64)).forms] == [2, 4, 8, 16, 24, 32]


def test_a_rank_by_name_is_the_only_step_and_bends_to_each_bond():
    (form,) = ladder(config({"rank": 20, "cores": 3}, BINARY), (16, 32)).forms
    assert isinstance(form, ChainForm)
    assert (form.out_modes, form.in_modes, form.ranks) == ((4, 4, 1), (1, 1, 32), (4, 16))


def test_bond_scales_can_be_left_out():
    (form,) = ladder(config({"rank": 8, "bond_scales": False}, BINARY), (16, 32)).forms
    assert isinstance(form, ChainForm)
    assert form.scales == (True, False, True)


def test_modes_by_hand_are_kept_and_a_shape_that_does_not_factor_is_refused():
    modes = {"out": [2, 8], "into": [16, 2]}
    (form,) = ladder(config({"rank": 2, "layout": "mpo", "modes": modes}, BINARY), (16, 32)).forms
    assert isinstance(form, ChainForm)
    assert (form.out_modes, form.in_modes) == ((2, 8), (16, 2))
    with pytest.raises(ShapeError, match="dimension 31 does not factor into 3 modes"):
        ladder(config({"rank": 2, "layout": "mpo", "cores": 3}, BINARY), (16, 31))


def test_best_is_the_largest_within_a_level_or_the_smallest():
    found = ladder(config({}, BINARY), (32, 64))
    assert isinstance(found, Ladder)
    levels = [bits_per_weight(form) for form in found.forms]
    assert [found.best(level) for level in levels] == list(range(len(levels)))
    assert (found.best(0.0), found.best(levels[2] - 1e-9), found.best(99.0)) == (0, 1, len(levels) - 1)


def residual(*terms: dict[str, Any], codec: dict[str, Any] = BINARY, factor: dict[str, Any] | None = None) -> RunConfig:
    tree = {"method": "mine", "bits_per_weight": 1.0, "binarize": {"codec": codec, "residual": list(terms)}}
    return RunConfig.model_validate({**tree, "decompose": {"factor": {"kind": "tensor_train", **(factor or {})}}})


def test_terms_that_ask_have_one_rank_and_the_others_their_own():
    path = {"factor": {"kind": "tensor_train"}, "codec": BINARY}
    fixed = {"factor": {"kind": "tensor_train", "rank": 3}, "codec": {"kind": "float"}}
    found = ladder(residual(path, fixed), (32, 64))
    assert [[part.ranks[0] for part in form.parts] for form in found.forms] == [
        [rank, rank, 3] for rank in (2, 4, 8, 16, 24, 32)
    ]
    assert list(found.bytes) == sorted(set(found.bytes))
    alone = ladder(residual(path, factor={"rank": 5}), (32, 64)).forms
    assert {form.parts[0].ranks for form in alone} == {(5,)}
    assert len(alone) == 6


def test_a_fixed_share_has_fixed_bytes_and_the_chain_gets_what_is_left():
    sparse = {"codec": {"kind": "sparse", "mask": {"kind": "top_columns", "share": 0.05}}}
    with_columns, without = ladder(residual(sparse), (32, 64)), ladder(config({}, BINARY), (32, 64))
    parts = {form.parts[1] for form in with_columns.forms}
    assert len(parts) == 1
    assert [form.parts[0] for form in with_columns.forms] == list(without.forms)
    assert with_columns.best(3.0) < without.best(3.0)


def test_magnitudes_on_cores_cost_their_formula():
    """16 l (m + n + 2 k) bits, and no scales of the chain."""
    for rank in (2, 3):
        (form,) = ladder(config({"rank": 16}, {**BINARY, "rank": rank}), (32, 64)).forms
        assert isinstance(form, ChainForm)
        assert form.scales == (False, False, False)
        assert 8 * blob_bytes(form) == 16 * (32 + 64) + 16 * rank * (32 + 64 + 2 * 16)
    (form,) = ladder(config({"rank": 8, "layout": "mpo"}, {**BINARY, "rank": 2}), (32, 64)).forms
    assert isinstance(form, ChainForm)
    assert form.scales == (True, False, True)  # no single core has a whole side


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decompose.factor": {"kind": "tensor_train"}, "binarize.codec": SPARSE}, "use it with factor"),
        ({"binarize.solver": {"kind": "procrustes"}}, "solver procrustes rotates the one bond"),
        ({"binarize.codec": {"kind": "binary", "scale": ["row"], "rank": 2}}, "a magnitude of rank 2 needs scale"),
        ({"binarize.codec": {"kind": "binary", "scale": ["group", "row"]}}, "leave the others out"),
        ({"binarize.codec": {"kind": "binary", "scale": ["row"], "group_columns": 64}}, "has groups of columns"),
        (
            {"decompose.factor": {"kind": "tensor_train"}, "binarize.codec": {"kind": "binary", "scale": ["group"]}},
            "scales a weight itself",
        ),
        (
            {"binarize.residual": [{"factor": {"kind": "tensor_train"}, "codec": BINARY}]},
            "residual.0.factor.rank is auto",
        ),
    ],
)
def test_pieces_that_do_not_go_together_are_refused(change: dict[str, Any], message: str):
    tree: dict[str, Any] = {"method": "mine"}
    for key, value in change.items():
        stage, _, name = key.partition(".")
        tree.setdefault(stage, {})[name] = value
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate(tree)


def test_what_is_around_a_weight_is_paid_for():
    def form(**around: Any) -> AroundForm:
        tree = {"method": "mine", "binarize": {"codec": {"kind": "binary"}, "around": around}}
        (found,) = ladder(RunConfig.model_validate(tree), (64, 96)).forms
        assert isinstance(found, AroundForm)
        return found

    plain = GridForm((64, 96), scale=EnvelopeForm(64, 96, cols=True))
    assert form(output_norm=True) == AroundForm(plain, output_norm=True)
    assert blob_bytes(form(input_bits=8)) == blob_bytes(plain)
    routed = form(routed={"experts": 3})
    assert routed == AroundForm(GridForm((64, 96)), experts=3)
    assert routed.fitted == plain
    assert blob_bytes(routed) == 64 * 96 // 8 + 2 * 3 * (96 + 96 + 64)
