"""Plain rounding of each core, whose vectors the chain takes over."""

import pytest
import torch

from drawn import chain_form, normal, seeded
from liptt_cli.algebra.codecs.binary import BinaryCodec
from liptt_cli.algebra.codecs.dense import DenseCodec
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor
from liptt_cli.algebra.metric import Metric
from liptt_cli.algebra.solvers.direct import DirectSolver
from liptt_cli.tensors.chain import as_core, contract

WEIGHT = normal(12, 16)


@pytest.mark.parametrize("layout", ["split", "mpo"])
@pytest.mark.parametrize("ranks", [(5,), (3, 5)])
def test_moving_the_vectors_to_ends_and_bonds_changes_nothing(layout, ranks):
    if layout == "mpo" and len(ranks) == 2:
        ranks = (3, 3)
    form = chain_form((12, 16), ranks, layout=layout)
    start = TensorTrainFactor("svd").start(WEIGHT, form=form, generator=seeded())
    found = DirectSolver().solve(WEIGHT, start=start, codec=BinaryCodec(), metric=Metric())
    bonds, cores = (1, *start.ranks, 1), []
    for k, source in enumerate(found.sources):
        values = start.cores[k].dense(torch.float64)
        magnitude = values / source[0]
        cores.append(as_core(values.sign() * magnitude.abs(), left=bonds[k], right=bonds[k + 1]))
    torch.testing.assert_close(found.chain.dense(torch.float64), contract(cores)[0, :, :, 0])


def test_floats_come_back():
    form = chain_form((12, 16), (12,), dtype="float32")
    start = TensorTrainFactor("svd").start(WEIGHT, form=form, generator=seeded())
    found = DirectSolver().solve(WEIGHT, start=start, codec=DenseCodec("float32"), metric=Metric())
    torch.testing.assert_close(found.chain.dense(torch.float64), WEIGHT)
    assert found.chain.scales == (None, None, None)
