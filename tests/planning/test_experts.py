"""Experts by their names: places and pools, routers, and what files call otherwise."""

import pytest

from liptt_cli.planning.experts import (
    GATED,
    MIXTRAL,
    Part,
    Place,
    called_as,
    leaves_among,
    parts_of,
    place_of,
    pool_of,
    routers_among,
    stored_as,
)

QWEN = [f"model.layers.0.mlp.experts.{n}.{leaf}" for n in (0, 10) for leaf in GATED]
STORED = [f"model.layers.1.block_sparse_moe.experts.{n}.{leaf}.weight" for n in (0, 7) for leaf in MIXTRAL]


def test_an_expert_s_linear_has_a_place_and_others_have_none():
    assert place_of(QWEN[-1]) == Place("model.layers.0.mlp.experts", 10, "down_proj")
    assert pool_of(QWEN[0]) == pool_of(QWEN[3]) != pool_of(QWEN[1])
    for name in ("model.layers.0.mlp.shared_experts.up_proj", "model.layers.0.mlp.up_proj", "mlp.experts.gate_up_proj"):
        assert place_of(name) is pool_of(name) is None


def test_routers_are_what_chooses_beside_experts_and_nothing_else():
    routers = [f"model.layers.0.mlp.{leaf}" for leaf in ("gate", "router", "shared_expert_gate")]
    others = ["model.layers.0.mlp.shared_expert.up_proj", "model.layers.1.mlp.gate", "model.layers.0.self_attn.gate"]
    assert routers_among([*QWEN, *routers, *others]) == set(routers)


def test_leaves_are_told_by_any_of_them():
    assert leaves_among(QWEN) == leaves_among([]) == leaves_among(["model.w1.weight"]) == GATED
    assert leaves_among(STORED[2:3]) == leaves_among(["X.mlp.experts.0.w2"]) == MIXTRAL


def test_mixtral_s_block_has_another_name_on_disk():
    names = called_as([*STORED, "model.layers.1.block_sparse_moe.gate.weight", "model.norm.weight"])
    assert names[STORED[0]] == "model.layers.1.mlp.experts.0.w1.weight"
    assert names["model.layers.1.block_sparse_moe.gate.weight"] == "model.layers.1.mlp.gate.weight"
    assert names["model.norm.weight"] == "model.norm.weight"
    assert {stored_as(called) for called in names.values()} == set(names)


@pytest.mark.parametrize("name", ["layers.0.block_sparse_moe.input_linear.weight", "layers.0.mlp.experts.0.w1.weight"])
def test_a_family_that_calls_its_block_so_itself_keeps_the_name(name: str):
    assert called_as([name]) == {name: name}


FUSED = {"X.mlp.experts.gate_up_proj": (2, 10, 4), "X.mlp.experts.down_proj": (2, 4, 5)}


def test_fused_experts_have_a_part_for_each_matrix():
    parts = parts_of({**FUSED, "X.norm.weight": (4,)})
    assert set(parts) == {f"X.mlp.experts.{n}.{leaf}.weight" for n in (0, 1) for leaf in GATED}
    assert parts["X.mlp.experts.1.gate_proj.weight"] == Part("X.mlp.experts.gate_up_proj", 1, 0, (5, 4))
    assert parts["X.mlp.experts.1.up_proj.weight"] == Part("X.mlp.experts.gate_up_proj", 1, 5, (5, 4))
    assert parts["X.mlp.experts.0.down_proj.weight"] == Part("X.mlp.experts.down_proj", 0, 0, (4, 5))


@pytest.mark.parametrize(
    "change",
    [
        {"X.mlp.experts.gate_up_proj": (2, 4, 10)},  # transposed
        {"X.mlp.experts.gate_up_proj_bias": (2, 10)},
        {"X.mlp.experts.down_proj": (3, 4, 5)},
        {"X.mlp.experts.gate_up_proj": (10, 4)},
    ],
)
def test_fused_experts_of_another_layout_have_none(change: dict[str, tuple[int, ...]]):
    assert parts_of({**FUSED, **change}) == {}
