"""Block files: values, sources and changed tensors come back as they went in; all but the sources are the model's."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from drawn import normal, seeded
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.packing.blob import pack
from liptt_cli.packing.block_file import BlockResult, read_sources, write_block
from liptt_cli.packing.overlay import Overlay


def signs(rows: int, columns: int) -> Grid:
    return Grid(torch.randint(0, 2, (1, rows, columns), generator=seeded(rows), dtype=torch.uint8))


def result() -> BlockResult:
    scales = (torch.rand(6, generator=seeded()), None, torch.rand(9, generator=seeded()))
    chain = Chain((signs(6, 3), signs(3, 9)), scales, (6, 9), (6, 1), (1, 9)).settled()
    grid = Grid(signs(4, 5).codes, Envelope(torch.rand(1, 1, 4, 1, generator=seeded()), None, 5)).settled()
    sources = {"layers.0.q": (normal(6, 3, dtype=torch.float32), normal(3, 9, dtype=torch.float32).T.contiguous().T)}
    changed = {"layers.0.norm.weight": normal(7, dtype=torch.float32).requires_grad_(True)}
    return BlockResult({"layers.0.q": chain, "layers.0.up": grid}, sources, changed)


def test_everything_comes_back(tmp_path: Path):
    path, wanted = tmp_path / "block-000.safetensors", result()
    write_block(path, wanted)
    overlay = Overlay.read([path])
    assert overlay.forms == {name: value.form for name, value in wanted.values.items()}
    for name, value in wanted.values.items():
        assert torch.equal(overlay.blob(name), pack(value))
        assert torch.equal(overlay.value(name).dense(), value.dense())
    assert torch.equal(overlay.changed("layers.0.norm.weight"), wanted.changed["layers.0.norm.weight"].detach())
    assert set(overlay.tensors) == {"layers.0.q.weight", "layers.0.up.weight", "layers.0.norm.weight"}
    sources = read_sources([path])
    assert set(sources) == {"layers.0.q"}
    for found, source in zip(sources["layers.0.q"], wanted.sources["layers.0.q"], strict=True):
        assert found.dtype == torch.float16
        assert torch.equal(found, source.half())


def test_a_file_says_how_its_blobs_are_read(tmp_path: Path):
    path = tmp_path / "block-000.safetensors"
    write_block(path, result())
    with safe_open(path, framework="pt") as file:
        forms = json.loads(file.metadata()["forms"])
        assert file.get_slice("layers.0.q.weight").get_dtype() == "U8"
    assert {name: form["node"] for name, form in forms.items()} == {"layers.0.q": "chain", "layers.0.up": "grid"}


def test_many_cores_keep_their_order_and_an_empty_block_is_a_file(tmp_path: Path):
    sources = tuple(torch.full((2, 2), float(k)) for k in range(12))
    write_block(tmp_path / "a.safetensors", BlockResult({}, {"layers.0.q": sources}, {}))
    write_block(tmp_path / "b.safetensors", BlockResult())
    found = read_sources([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert [core[0, 0].item() for core in found["layers.0.q"]] == list(range(12))
    assert Overlay.read([tmp_path / "b.safetensors"]).tensors == {}
