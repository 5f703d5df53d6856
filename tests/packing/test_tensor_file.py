"""Safetensors files, read by header and written a tensor at a time: what the format's own library reads back."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from liptt_cli.errors import IntegrityError
from liptt_cli.packing.overlay import read_tensor
from liptt_cli.packing.tensor_file import INDEX, Piece, read_header, read_span, split, write_pieces, write_shards


def repeated(byte: int, count: int) -> Iterator[bytes]:
    yield bytes([byte]) * count


def piece(name: str, dtype: str = "U8", shape: tuple[int, ...] = (5,), count: int | None = None) -> Piece:
    found = Piece(name, dtype, shape, partial(iter, ()))
    return Piece(name, dtype, shape, partial(repeated, 7, found.bytes if count is None else count))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(seed=st.integers(0, 99))
def test_what_the_library_saves_is_written_again_as_it_was(tmp_path: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    odd = int(torch.randint(1, 9, (), generator=generator))
    saved = {
        "odd": torch.randint(0, 256, (odd,), dtype=torch.uint8, generator=generator),
        "half": torch.randn(3, odd, generator=generator).half(),
        "brain": torch.randn(2, 2, generator=generator).bfloat16(),
        "full": torch.randn(odd, generator=generator),
        "whole": torch.arange(3),
        "nothing": torch.empty(0, 4),
    }
    save_file(saved, tmp_path / "a.safetensors", metadata={"forms": "{}"})
    pieces, metadata = read_header(tmp_path / "a.safetensors")
    assert metadata == {"forms": "{}"}
    written = write_pieces(tmp_path / "b.safetensors", list(pieces.values()))
    data = (tmp_path / "b.safetensors").read_bytes()
    assert (written.bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    loaded = load_file(tmp_path / "b.safetensors")
    assert set(loaded) == set(saved)
    for name, tensor in saved.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
        assert torch.equal(read_tensor(pieces[name]), tensor)


def test_wide_dtypes_come_first_so_that_all_are_aligned(tmp_path: Path) -> None:
    write_pieces(tmp_path / "x", [piece("a"), piece("b", "F16", (3,)), piece("c", "F32", (3,))])
    assert list(read_header(tmp_path / "x")[0]) == ["c", "b", "a"]


def test_shards_are_filled_in_order_and_a_larger_tensor_stands_alone() -> None:
    shards = split([piece("a"), piece("b"), piece("big", shape=(50,)), piece("c")], shard_bytes=10)
    assert [[each.name for each in shard] for shard in shards] == [["a", "b"], ["big"], ["c"]]


def test_several_files_have_an_index(tmp_path: Path) -> None:
    written = write_shards(tmp_path, [piece("a"), piece("b"), piece("c")], shard_bytes=10)
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["weight_map"]["c"] == "model-00002-of-00002.safetensors"
    assert index["metadata"]["total_size"] == 15


@pytest.mark.parametrize("count", [4, 6])
def test_a_piece_of_another_length_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match=f"a: gave {count} bytes"):
        write_pieces(tmp_path / "x", [piece("a", count=count)])


@pytest.mark.parametrize("data", [b"", b"\xff" * 30, (9).to_bytes(8, "little") + b'{"a": {}}'])
def test_a_file_without_a_readable_header_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"/x: its header cannot be read"):
        read_header(tmp_path / "x")


@pytest.mark.parametrize("change", [-1, 1])
def test_a_shorter_or_longer_file_is_named(tmp_path: Path, change: int) -> None:
    write_pieces(tmp_path / "x", [piece("a")])
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[:change] if change < 0 else data + b"!")
    with pytest.raises(IntegrityError, match=r"/x: \d+ bytes, but its header promises"):
        read_header(tmp_path / "x")


def test_a_file_that_ends_while_it_is_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"123")
    with pytest.raises(IntegrityError, match="ends at byte 3"):
        list(read_span(tmp_path / "x", start=1, stop=5))
