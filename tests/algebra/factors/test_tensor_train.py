"""Float chains: exact at full rank, seeded when random, ones wherever the form has scales."""

import pytest
import torch

from drawn import chain_form, chain_of, normal, seeded, sign_form
from liptt_cli.algebra.factors.tensor_train import TensorTrainFactor

WEIGHT = normal(12, 16)


@pytest.mark.parametrize("layout", ["split", "mpo"])
@pytest.mark.parametrize("ranks", [(99,), (99, 99), (99, 99, 99)])
def test_svd_is_exact_at_full_rank_and_caps_what_it_does_not_need(layout, ranks):
    weight = normal(16, 16)
    form = chain_form((16, 16), ranks, layout=layout)
    chain = TensorTrainFactor("svd").start(weight, form=form, generator=seeded())
    assert all(rank < 99 for rank in chain.ranks)
    assert [len(s) for s in chain.scales] == [16, *chain.ranks, 16]
    torch.testing.assert_close(chain.dense(torch.float64), weight)


def test_svd_pads_what_the_modes_overshoot():
    form = chain_of((11, 15), ((4, 3), (4, 4)), (12,))
    chain = TensorTrainFactor("svd").start(WEIGHT[:11, :15], form=form, generator=seeded())
    torch.testing.assert_close(chain.dense(torch.float64), WEIGHT[:11, :15])


def test_random_cores_come_from_the_generator():
    form = chain_form((12, 16), (30,), bond_scales=False)
    factor = TensorTrainFactor("random")
    one, again, other = (factor.start(WEIGHT, form=form, generator=seeded(s)) for s in (1, 1, 2))
    assert one.ranks == (30,)
    assert one.scales[1] is None
    assert torch.equal(one.dense(torch.float64), again.dense(torch.float64))
    assert not torch.equal(one.dense(torch.float64), other.dense(torch.float64))


def test_a_form_that_is_no_chain_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="fills a ChainForm, not a GridForm"):
        TensorTrainFactor("svd").start(WEIGHT, form=sign_form(12, 16), generator=seeded())
