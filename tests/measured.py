"""A small model's shape, configurations with a knapsack, and evidence that was never measured but drawn."""

import random
from typing import Any

from liptt_cli.forms.base import bits_per_weight
from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.evidence import Evidence, LinearEvidence, Point, ladders_of, points_of, recipe_of
from liptt_cli.planning.formulas import shape_from_config
from liptt_cli.planning.plan import chosen_sites
from liptt_cli.planning.sites import ModelShape

_SPLIT: dict[str, Any] = {"kind": "tensor_train", "start": "random", "layout": "split", "cores": 2}
_MPO: dict[str, Any] = {"kind": "tensor_train", "start": "random", "layout": "mpo", "cores": 2}
_ALLOCATOR = ("at_bits", "at_unit", "iterations", "weight_by", "tie")
_GROUPS = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 3}


def small_model(width: int = 96, inner: int = 160, blocks: int = 1) -> ModelShape:
    """Return the shape of a small Llama."""
    config = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": 4, "num_hidden_layers": blocks}
    return shape_from_config({"model_type": "llama", "vocab_size": 300, **config})


def knapsack_config(*, factor: dict[str, Any] = _SPLIT, mpo: bool = False, **more: Any) -> RunConfig:
    """Return a configuration; keys of the allocator go to it, others to the top."""
    allocator = {"kind": "knapsack", "at_bits": [0.5, 0.8, 1.3], **{k: more.pop(k) for k in _ALLOCATOR if k in more}}
    allocator["candidates"] = [_MPO] if mpo else []
    tree = {
        "method": "mine",
        "bits_per_weight": 0.9,
        "decompose": {"factor": factor, "allocator": allocator},
        "binarize": {"codec": {"kind": "binary", "scale": ["axes"]}},
    }
    return RunConfig.model_validate(tree | more)


def evidence_of(config: RunConfig, model: ModelShape, *, seed: int = 0) -> Evidence:
    """Return evidence with errors that fall with the bits at a rate drawn for each linear, and drawn weights."""
    draw, linears = random.Random(seed), {}
    allocator = config.decompose.allocator
    assert isinstance(allocator, Knapsack)
    for site in chosen_sites(config, model):
        steepness, points = draw.uniform(1.0, 3.0), []
        for candidate, form in points_of(allocator.at_bits, ladders_of(config, site.shape)):
            points.append(Point(candidate, form, (1 + 0.2 * candidate) * 2 ** (-steepness * bits_per_weight(form))))
        group = _GROUPS[site.name.rpartition(".")[2]]
        linears[site.name] = LinearEvidence(site.shape, site.block, group, tuple(points), draw.uniform(0.1, 2.0))
    return Evidence("small", recipe_of(config), linears)
