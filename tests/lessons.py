"""A toy block that trains against a dense target, for the tests of the training loop."""

import torch
from torch import nn

from liptt_cli.algebra.objectives.base import Trace
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.grid import Grid
from liptt_cli.layers.surgery import thawed
from liptt_cli.menu import tuning as menu
from liptt_cli.tuning_loop import Course, Lesson


def options(**changes):
    defaults = {
        "steps": 12,
        "batch_windows": 4,
        "learning_rate": menu.LearningRates(codes=0.05, scales=0.02),
        "objectives": [menu.HiddenSquare(kind="hidden_square")],
        "checkpoint_steps": 5,
    }
    return menu.Tuning(**{**defaults, **changes})


def course(**changes):
    defaults = {"options": options(), "objectives": [HiddenSquare()], "seed": 3}
    return Course(**{**defaults, **changes})


def draw(seed):
    return torch.Generator().manual_seed(seed)


def block_lesson(*, scale=1.0, tuning=None):
    """A toy block of one thawed chain behind a norm, against a dense target on stored inputs."""

    def normal(*shape, seed):
        return torch.randn(shape, generator=draw(seed))

    codes = [(normal(1, *shape, seed=seed) > 0).to(torch.uint8) for shape, seed in (((8, 6), 1), ((6, 8), 2))]
    scales = [torch.full((n,), s).half() for n, s in ((8, 0.3), (6, 0.5), (8, 1.0))]
    value = Chain((Grid(codes[0]), Grid(codes[1])), tuple(scales), (8, 8), (8, 1), (1, 8))
    block = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))
    with torch.no_grad():
        block[1].bias.copy_(normal(8, seed=3))
    thawed(block, {"1": value}, tuning=tuning or options())
    x = normal(10, 5, 8, seed=4)
    target = scale * (x @ normal(8, 8, seed=5).T)
    return Lesson(
        block,
        10,
        lambda index: Trace(hidden={-1: x[index], 0: block(x[index])}),
        lambda index: Trace(hidden={-1: x[index], 0: target[index]}),
    )


def state(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
