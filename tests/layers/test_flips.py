"""Which signs flip, when, and how many."""

import torch
from torch import nn

from liptt_cli.layers.flips import Flips


def pushed(signs, flips, *gradients):
    for gradient in gradients:
        signs.grad = torch.tensor(gradient)
        flips.take(signs)
    return signs.tolist()


def test_the_signs_that_gradients_push_hardest_flip_when_it_is_time():
    signs = nn.Parameter(torch.tensor([1.0, 1.0, -1.0, -1.0]))
    flips = Flips(signs, share=0.5, every=2)
    assert pushed(signs, flips, [3.0, 0.1, 0.2, -5.0]) == [1, 1, -1, -1]
    assert pushed(signs, flips, [3.0, -0.1, 0.2, -5.0]) == [-1, 1, -1, 1]
    assert flips.push.tolist() == [0, 0, 0, 0]


def test_a_sign_that_its_gradient_confirms_stays_and_the_share_is_a_limit():
    signs = nn.Parameter(torch.tensor([1.0, 1.0, -1.0, -1.0]))
    flips = Flips(signs, share=1.0, every=1)
    assert pushed(signs, flips, [-1.0, 1.0, 1.0, 0.0]) == [1, -1, -1, -1]
    signs = nn.Parameter(torch.ones(10))
    assert pushed(signs, Flips(signs, share=0.11, every=1), [1.0] * 10).count(-1) == 2


def test_the_size_of_a_gradient_does_not_count_but_its_constancy_does():
    signs = nn.Parameter(torch.ones(2))
    flips = Flips(signs, share=0.5, every=3)
    assert pushed(signs, flips, [100.0, 1e-3], [-100.0, 1e-3], [100.0, 1e-3]) == [1, -1]


def test_without_a_gradient_nothing_is_gathered():
    signs = nn.Parameter(torch.ones(2))
    flips = Flips(signs, share=0.5, every=1)
    flips.take(signs)
    assert flips.steps == 0 and signs.tolist() == [1, 1]
    assert set(flips.state_dict()) == {"push", "square", "steps"}
