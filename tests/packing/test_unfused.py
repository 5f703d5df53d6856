"""Fused experts are cut without reading them, to the very numbers; and only where an expert is compressed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from liptt_cli.packing.artifact import headers
from liptt_cli.packing.overlay import read_tensor
from liptt_cli.packing.tensor_file import Piece
from liptt_cli.packing.unfused import unfused

GATES, DOWNS = "X.mlp.experts.gate_up_proj", "X.mlp.experts.down_proj"
LINEARS = ["X.q_proj", "X.mlp.experts.0.up_proj"]


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Three fused experts and a norm, saved."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        GATES: torch.randn(3, 10, 4, generator=generator).bfloat16(),
        DOWNS: torch.randn(3, 4, 5, generator=generator).bfloat16(),
        "X.norm.weight": torch.ones(4),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tensors


def test_each_matrix_is_that_of_its_expert(stored: dict[str, torch.Tensor], tmp_path: Path):
    pieces = headers([tmp_path / "model.safetensors"])
    cut = unfused(pieces, LINEARS)
    assert len(cut) == 3 * 3 + 1 and GATES not in cut and DOWNS not in cut
    for number in range(3):
        gate, up = stored[GATES][number].chunk(2)
        wanted = {"gate_proj": gate, "up_proj": up, "down_proj": stored[DOWNS][number]}
        for leaf, matrix in wanted.items():
            piece = cut[f"X.mlp.experts.{number}.{leaf}.weight"]
            assert torch.equal(read_tensor(piece), matrix) and piece.bytes == matrix.nbytes
    assert unfused(pieces, LINEARS[:1]) is pieces


def test_a_tensor_that_lies_in_no_file_cannot_be_cut():
    pieces = {
        name: Piece(name, "F32", shape, lambda: iter([b""])) for name, shape in ((GATES, (1, 2, 1)), (DOWNS, (1, 1, 1)))
    }
    with pytest.raises(ValueError, match="was not read from a file"):
        unfused(pieces, LINEARS)
