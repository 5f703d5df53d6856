"""Replacing modules by path, and choosing what trains."""

import pytest
import torch
from torch import nn

from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Grid
from liptt_cli.layers.surgery import get_module, replace_module, thawed, trained_groups
from liptt_cli.layers.trainable import TrainableLinear
from liptt_cli.menu.tuning import LabelNats, Tuning


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(2)])
        self.head = nn.Linear(4, 5, bias=False)

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def tuning(**changes):
    return Tuning(steps=1, objectives=[LabelNats(kind="label_nats")], **changes)


def test_modules_are_found_and_replaced_by_path():
    model = Toy()
    assert get_module(model, "blocks.1.1") is model.blocks[1][1]
    assert get_module(model, "") is model
    new = nn.Linear(4, 4)
    replace_module(model, "blocks.1.1", new)
    assert model.blocks[1][1] is new


@pytest.mark.parametrize("name", ["blocks.2", "blocks.0.nothing", "head.weight"])
def test_a_path_without_a_module_is_refused(name):
    with pytest.raises(KeyError, match="no module"):
        get_module(Toy(), name)
    with pytest.raises(KeyError, match="no module"):
        replace_module(Toy(), name, nn.Identity())


def test_thawed_keeps_the_bias_and_the_function():
    model, ids = Toy(), torch.arange(5)
    before = model(ids)
    linear = model.blocks[0][1]
    found = thawed(model, {"blocks.0.1": Dense(linear.weight.detach(), "float32")}, tuning=tuning())
    assert list(found) == ["blocks.0.1"]
    assert model.blocks[0][1] is found["blocks.0.1"]
    assert isinstance(found["blocks.0.1"], TrainableLinear)
    assert torch.equal(model(ids), before)


def test_groups_hold_the_linears_parts_and_the_norms_and_all_else_is_frozen():
    model = Toy()
    values = {"blocks.0.1": Grid(torch.ones(1, 4, 4, dtype=torch.uint8)), "blocks.1.1": Dense(torch.eye(4), "float32")}
    options = tuning(train=["codes", "scales", "norms", "weights"])
    thawed(model, values, tuning=options)
    groups = trained_groups(model, options.train)
    assert {name: len(parameters) for name, parameters in groups.items()} == {"codes": 1, "norms": 4, "weights": 1}
    moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    norms = {f"blocks.{b}.0.{part}" for b in (0, 1) for part in ("weight", "bias")}
    assert moving == norms | {"blocks.0.1.latent.codes.latent", "blocks.1.1.latent.values"}
    assert list(trained_groups(model, ["norms"])) == ["norms"]
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == norms
