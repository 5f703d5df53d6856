"""The two streams on disk: one before the first block, two behind it, gone when their block is done."""

from pathlib import Path

import pytest
import torch

from liptt_cli.calibration.streams import Streams


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_what_is_written_is_read_bit_for_bit_in_its_own_dtype(hidden: torch.Tensor, tmp_path: Path):
    streams = Streams(tmp_path / "new" / "streams")
    streams.write("clean", 1, hidden)
    streams.write("prefix", 1, hidden.bfloat16().transpose(1, 2))
    assert torch.equal(streams.read("clean", 1), hidden)
    assert streams.read("prefix", 1).dtype == torch.bfloat16
    assert torch.equal(streams.read("prefix", 1), hidden.bfloat16().transpose(1, 2))


def test_before_the_first_block_both_are_one(hidden: torch.Tensor, tmp_path: Path):
    streams = Streams(tmp_path)
    assert not streams.holds(0)
    streams.write("clean", 0, hidden)
    assert streams.holds(0)
    assert torch.equal(streams.read("prefix", 0), hidden)
    assert [path.name for path in tmp_path.iterdir()] == ["clean-000.safetensors"]


def test_a_block_is_held_only_if_both_are_there(hidden: torch.Tensor, tmp_path: Path):
    streams = Streams(tmp_path)
    streams.write("clean", 2, hidden)
    assert not streams.holds(2)
    streams.write("prefix", 2, hidden)
    assert streams.holds(2) and Streams(tmp_path).holds(2)


def test_dropping_a_block_forgets_it_and_all_before_it(hidden: torch.Tensor, tmp_path: Path):
    streams = Streams(tmp_path)
    for block in range(4):
        streams.write("clean", block, hidden)
        streams.write("prefix", block, hidden)
    streams.drop(1)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["clean-002", "clean-003", "prefix-002", "prefix-003"]
    streams.drop(3)
    assert not list(tmp_path.iterdir())
