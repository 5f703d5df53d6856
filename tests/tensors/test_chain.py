"""Contraction of cores, and the order of modes."""

import pytest
import torch

from drawn import normal
from liptt_cli.tensors.chain import as_core, as_matrix, contract, identity_core, to_modes

CORES = [normal(1, 2, 3, 4, seed=1), normal(4, 3, 1, 5, seed=2), normal(5, 1, 2, 1, seed=3)]


def test_contraction_is_the_sum_over_bonds():
    merged = contract(CORES)
    expected = torch.einsum("amnb,bpqc,crsd->amprnqsd", *CORES).reshape(1, 6, 6, 1)
    torch.testing.assert_close(merged, expected)


def test_the_side_that_is_contracted_first_does_not_matter():
    torch.testing.assert_close(contract(CORES[1:]), torch.einsum("bpqc,crsd->bprqsd", *CORES[1:]).reshape(4, 3, 2, 1))


@pytest.mark.parametrize("core", CORES)
def test_a_core_is_its_stored_matrix(core):
    assert torch.equal(as_core(as_matrix(core), left=core.shape[0], right=core.shape[3]), core)


def test_the_identity_core_changes_nothing():
    assert torch.equal(contract([CORES[0], identity_core(4, like=CORES[0])]), CORES[0])


def test_modes_are_row_major_and_paired():
    matrix = normal(6, 4)
    tensor = to_modes(matrix, out_modes=(2, 3), in_modes=(2, 2))
    assert tensor.shape == (4, 6)
    assert tensor[1 * 2 + 0, 2 * 2 + 1] == matrix[1 * 3 + 2, 0 * 2 + 1]
