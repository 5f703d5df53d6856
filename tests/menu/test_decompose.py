"""Options of the allocator: what cannot be measured or afforded is refused before anything is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from liptt_cli.menu.decompose import Decompose, Knapsack, Uniform
from liptt_cli.menu.needs import needs_gradients
from liptt_cli.menu.run import RunConfig

CHAIN: dict[str, Any] = {"kind": "tensor_train", "start": "random"}


def config(**more: Any) -> RunConfig:
    allocator = {"kind": "knapsack", **more.pop("allocator", {})}
    tree: dict[str, Any] = {
        "method": "mine",
        "bits_per_weight": 1.0,
        "decompose": {"factor": CHAIN, "allocator": allocator},
        "binarize": {"metric": {"cols": "full"}, "codec": {"kind": "binary", "scale": ["axes"]}},
    }
    return RunConfig.model_validate(tree | more)


def test_the_split_is_uniform_unless_asked():
    assert Decompose().allocator == Uniform()
    assert Decompose.model_validate({"allocator": {"kind": "knapsack"}}).allocator == Knapsack(kind="knapsack")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"allocator": {"at_bits": [0.3, 0.3]}}, r"\[0.3, 0.3\] must ascend"),
        ({"allocator": {"at_bits": [0.3]}}, "at least 2 items"),
        ({"allocator": {"candidates": [{**CHAIN, "start": "svd"}]}}, "start from svd, but factor from random"),
        ({"bits_per_weight": None}, "knapsack, so bits_per_weight or target_size is needed|rank is auto"),
        ({"binarize": {}, "allocator": {"weight_by": "output"}}, "weighs errors of outputs, but binarize.metric.cols"),
        ({"binarize": {}, "allocator": {"weight_by": "gradient"}}, "weighs errors of outputs"),
        (
            {"calibration": {"windows": 4}, "allocator": {"weight_by": "divergence"}},
            "allocator.windows is 6, but calibration.windows is 4",
        ),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        config(**more)


def test_only_weights_by_gradient_need_a_backward_pass():
    kinds = ("none", "output", "gradient", "divergence")
    assert [needs_gradients(config(allocator={"weight_by": kind})) for kind in kinds] == [False, False, True, False]
