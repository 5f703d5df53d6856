"""What LipTT's abstract claims, as inequalities (card 1): size and operations at once, no normalisation, one step."""

import pytest
import torch

from drawn import chain_form, llm_like, plan_of, seeded
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.compose import Solved, compress
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.admm import AdmmSolver
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.forms.base import bits_per_weight
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.tuning import LatentOptions

WIDTH, RANK = 64, 24
WEIGHT = llm_like(WIDTH, WIDTH)
BATCH_NORM_VECTORS = 4  # gain, bias, running mean and variance, in float16


def test_forty_percent_of_the_operations_and_far_more_of_the_size_go_at_once():
    """-40 % operations is a payload of 0.6 bits, where -62 % of float16's size would be 6 bits."""
    form = chain_form((4096, 4096), (int(0.6 * 4096 / 2),))
    operations = form.operations()
    assert operations.sign_additions + operations.multiplications < 0.61 * 4096 * 4096
    assert bits_per_weight(form) < (1 - 0.62) * 16 / 8


@pytest.mark.parametrize(("width", "rank", "low", "high"), [(192, 72, 0.2, 0.5), (4096, 2024, 0.01, 0.03)])
def test_what_a_normalisation_behind_each_core_would_add(width: int, rank: int, low: float, high: float):
    """It undoes savings where widths are small, and hardly at the width of a 7B model."""
    form = chain_form((width, width), (rank,))
    added = 16 * BATCH_NORM_VECTORS * (rank + width) / (width * width)
    assert low < added / bits_per_weight(form) < high


def trained(start: Solved, *, steps: int) -> float:
    module = thaw(start.value, options=LatentOptions(), train=["codes", "scales"], sources=start.sources)
    groups = module.groups()
    optimizer = torch.optim.Adam([{"params": groups["codes"], "lr": 0.03}, {"params": groups["scales"], "lr": 3e-3}])
    least = float("inf")
    for step in range(steps + 1):
        optimizer.zero_grad()
        loss = (WEIGHT - module.view().dense()).square().sum() / WEIGHT.square().sum()
        least = min(least, loss.item())
        if step < steps:
            loss.backward()
            optimizer.step()
    return least


def test_one_step_from_a_fit_beats_two_from_a_rounded_train():
    """Equal steps: a float train is healed for a third of them, rounded and trained on, or all start from the fit."""
    form = chain_form((WIDTH, WIDTH), (RANK,))
    fit = plan_of(form, TensorTrainFactor("random"), BinaryCodec(), AdmmSolver(80))
    rounded = plan_of(form, TensorTrainFactor("svd"), BinaryCodec(), DirectSolver())
    one = compress(WEIGHT, plan=fit, metric=Metric(), generator=seeded())
    several = compress(WEIGHT, plan=rounded, metric=Metric(), generator=seeded())
    assert trained(one, steps=90) < trained(several, steps=60)
