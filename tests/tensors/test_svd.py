"""TT-SVD: exact at full rank in both layouts, within its bound below, ranks capped, bonds balanced."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import normal
from liptt_cli.tensors.chain import contract, to_modes
from liptt_cli.tensors.modes import bond_caps, chain_modes
from liptt_cli.tensors.svd import tt_svd


def merged(train):
    return contract([core.unsqueeze(2) for core in train.cores]).reshape([c.shape[1] for c in train.cores])


@pytest.mark.parametrize("layout", ["split", "mpo"])
@pytest.mark.parametrize("cores", [2, 3, 4])
def test_full_rank_is_exact_and_ranks_are_capped(layout, cores):
    out_modes, in_modes = chain_modes((16, 24), layout, cores=cores)
    tensor = to_modes(normal(16, 24), out_modes=out_modes, in_modes=in_modes)
    train = tt_svd(tensor, ranks=[1000] * (cores - 1))
    assert tuple(core.shape[2] for core in train.cores[:-1]) == bond_caps(out_modes, in_modes)
    assert train.dropped_square == 0
    torch.testing.assert_close(merged(train), tensor)


@settings(max_examples=30, deadline=None)
@given(ranks=st.lists(st.integers(1, 12), min_size=3, max_size=3), seed=st.integers(0, 100))
def test_the_error_keeps_the_bound_and_the_ranks_what_was_asked(ranks, seed):
    tensor = normal(4, 3, 3, 4, seed=seed)
    train = tt_svd(tensor, ranks=ranks)
    assert all(core.shape[2] <= rank for core, rank in zip(train.cores, ranks, strict=False))
    assert float((merged(train) - tensor).square().sum()) <= train.dropped_square + 1e-12


def test_with_one_bond_the_error_is_the_bound():
    tensor = normal(8, 10)
    train = tt_svd(tensor, ranks=[3])
    assert float((merged(train) - tensor).square().sum()) == pytest.approx(train.dropped_square)


def test_both_sides_of_a_bond_have_the_same_columns_in_size():
    left, right = tt_svd(normal(8, 10), ranks=[5]).cores
    torch.testing.assert_close(left[0].norm(dim=0), right[:, :, 0].norm(dim=1))


def test_a_rank_deficient_tensor_is_exact_and_finite():
    low = normal(8, 2) @ normal(2, 10, seed=1)
    torch.testing.assert_close(merged(tt_svd(low, ranks=[8])), low)
    assert not merged(tt_svd(torch.zeros(4, 3, 2), ranks=[3, 2])).any()


def test_a_wrong_number_of_ranks_is_refused():
    with pytest.raises(ValueError, match="needs 2 ranks from 1 up"):
        tt_svd(normal(2, 2, 2), ranks=[1])
    assert prod(tt_svd(normal(5), ranks=[]).cores[0].shape) == 5
