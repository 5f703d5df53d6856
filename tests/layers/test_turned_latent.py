"""A turned weight trains inside of its turns, which stay, and freezes to what it was."""

import torch

from drawn import normal, seeded, sign_form, value_of
from liptt_cli.formats.steps import Hadamard, Permutation, Scale, Signs
from liptt_cli.formats.turned import Turned
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.tuning import LatentOptions

STEPS = (
    Scale(torch.full((8,), 0.5).half()),
    Signs(torch.tensor([0, 1] * 4, dtype=torch.uint8)),
    Permutation(torch.randperm(8, generator=seeded()).to(torch.uint8)),
    Hadamard(4),
)
VALUE = Turned(value_of(sign_form(8, 8)), STEPS[3:], STEPS)


def test_it_freezes_to_what_it_was_and_runs_as_it_is_stored():
    module = thaw(VALUE, options=LatentOptions(), train=["codes", "scales"])
    frozen = module.freeze()
    assert frozen.form == VALUE.form
    assert all(torch.equal(tensor, frozen.fields()[name]) for name, tensor in VALUE.fields().items())
    x = normal(3, 8, dtype=torch.float32)
    assert torch.equal(module.view().apply(x), VALUE.apply(x))


def test_gradients_reach_the_inner_codes_and_scales_alone():
    module = thaw(VALUE, options=LatentOptions(), train=["codes", "scales"])
    module.view().dense().square().sum().backward()
    names = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert names
    assert all("inner" in name for name in names)
