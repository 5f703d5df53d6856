"""What the stages changed: read from block files, later ones lying over earlier ones."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from liptt_cli.errors import IntegrityError, ModelError
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.packing.blob import pack
from liptt_cli.packing.overlay import Overlay, resolve


def signs(fill: int, rows: int = 4) -> Grid:
    scale = Envelope(torch.ones(1, 1, rows, 1), None, 8)
    return Grid(torch.full((1, rows, 8), fill, dtype=torch.uint8), scale).settled()


def save(path: Path, tensors: dict[str, Tensor], **values: Grid) -> Path:
    blobs = {f"block.{name}.weight": pack(value) for name, value in values.items()}
    forms = {f"block.{name}": value.form.to_json() for name, value in values.items()}
    save_file({**blobs, **tensors}, path, metadata={"forms": json.dumps(forms)})
    return path


def test_later_files_win_and_latents_are_no_part_of_the_model(tmp_path: Path) -> None:
    first = save(tmp_path / "1", {"norm": torch.zeros(3), "block.a.latent.0": torch.zeros(2)}, a=signs(0), b=signs(0))
    second = save(tmp_path / "2", {"norm": torch.ones(3)}, a=signs(1))
    overlay = Overlay.read([first, second])
    assert set(overlay.forms) == {"block.a", "block.b"}
    assert set(overlay.tensors) == {"block.a.weight", "block.b.weight", "norm"}
    assert torch.equal(overlay.value("block.a").dense(), torch.ones(4, 8))
    assert torch.equal(overlay.value("block.b").dense(), -torch.ones(4, 8))
    assert torch.equal(overlay.blob("block.a"), pack(signs(1)))
    changed = overlay.changed("norm")
    assert changed is not None and torch.equal(changed, torch.ones(3))
    assert overlay.changed("other") is None


def test_a_dense_weight_over_a_blob_makes_the_linear_plain_again(tmp_path: Path) -> None:
    files = [save(tmp_path / "1", {}, a=signs(0)), save(tmp_path / "2", {"block.a.weight": torch.ones(4, 8)})]
    overlay = Overlay.read(files)
    assert not overlay.forms and set(overlay.tensors) == {"block.a.weight"}


def test_a_blob_of_another_length_than_its_form_is_named(tmp_path: Path) -> None:
    forms = {"block.a": signs(0, rows=5).form.to_json()}
    save_file({"block.a.weight": pack(signs(0))}, tmp_path / "1", metadata={"forms": json.dumps(forms)})
    with pytest.raises(IntegrityError, match=r"block\.a: a blob of 24 bytes of U8, but its form asks for 26"):
        Overlay.read([tmp_path / "1"])


def test_a_form_without_a_blob_is_named(tmp_path: Path) -> None:
    forms = {"block.a": signs(0).form.to_json()}
    save_file({"x": torch.zeros(1)}, tmp_path / "1", metadata={"forms": json.dumps(forms)})
    with pytest.raises(IntegrityError, match=r"block\.a: a form, but no tensor"):
        Overlay.read([tmp_path / "1"])


def test_the_linears_of_a_packed_model_are_read_back(packed_llama: Path) -> None:
    overlay = Overlay.of_packed(packed_llama)
    assert len(overlay.forms) == 14
    assert overlay.value("model.layers.1.mlp.down_proj").form == overlay.forms["model.layers.1.mlp.down_proj"]


def test_a_plain_model_has_none(tiny_llama: Path) -> None:
    with pytest.raises(ModelError, match="not a model packed by liptt"):
        Overlay.of_packed(tiny_llama)


@pytest.mark.parametrize(
    ("name", "found"), [("a.b", "a.b"), ("model.c.d", "c.d"), ("e", "x.e"), ("nowhere.at.all", None), ("twice", None)]
)
def test_names_may_differ_by_the_base_model_s_prefix(name: str, found: str | None) -> None:
    assert resolve(name, dict.fromkeys(("a.b", "c.d", "x.e", "y.twice", "z.twice"))) == found
