"""Learning rates by group and by step."""

import math

import pytest
import torch
from torch import nn

from liptt_cli.errors import ConfigError
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.layers.optimizer import make_optimizer, rate_share
from liptt_cli.layers.surgery import thawed
from liptt_cli.menu import tuning as menu


def options(**changes):
    return menu.Tuning(**{"objectives": [menu.LabelNats(kind="label_nats")], **changes})


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("cosine", [0.5, 1, *(0.5 + 0.5 * math.cos(math.pi * k / 6) for k in range(6))]),
    ],
)
def test_the_rate_warms_up_and_follows_the_schedule(schedule, expected):
    chosen = options(steps=8, warmup_share=0.25, schedule=schedule)
    assert [rate_share(step, chosen) for step in range(8)] == pytest.approx(expected)


def test_warming_up_all_the_way_is_allowed():
    assert rate_share(3, options(steps=4, warmup_share=1.0)) == 1.0


def test_each_group_has_its_rate_and_only_matrices_decay():
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))
    scale = Envelope(torch.ones(1, 1, 4, 1, dtype=torch.float16), None, 4)
    chosen = options(weight_decay=0.1, train=["codes", "scales", "norms"], learning_rate=menu.LearningRates(norms=0.5))
    thawed(model, {"1": Grid(torch.ones(1, 4, 4, dtype=torch.uint8), scale)}, tuning=chosen)
    groups = make_optimizer(model, chosen).param_groups
    found = {group["name"]: (group["lr"], group["weight_decay"], len(group["params"])) for group in groups}
    assert found == {"codes": (0.03, 0.1, 1), "scales": (3e-3, 0.0, 1), "norms": (0.5, 0.0, 2)}


def test_a_model_without_the_groups_is_refused():
    with pytest.raises(ConfigError, match="nothing to train among codes, scales"):
        make_optimizer(nn.Linear(2, 2), options())
