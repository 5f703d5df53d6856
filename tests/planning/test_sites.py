"""Sites from headers: which linears, what lies beside them, and the refusals of files and globs."""

import json
import struct
from pathlib import Path

import pytest

from liptt_cli.errors import ConfigError, ModelError
from liptt_cli.planning.sites import read_headers, select, shape_from_headers

NAMES = ["model.layers.0.q_proj", "model.layers.0.up_proj", "model.layers.1.q_proj"]


def test_headers_name_linears_by_block_and_sum_the_rest(make_tiny_model, tmp_path: Path):
    shape = shape_from_headers(read_headers(make_tiny_model("qwen2", tmp_path)))
    assert len(shape.sites) == 14
    assert [site.name for site in shape.sites] == sorted(site.name for site in shape.sites)
    assert shape.sites[0].name == "model.layers.0.mlp.down_proj"
    assert (shape.sites[0].shape, shape.sites[0].weights, shape.sites[-1].block) == ((32, 64), 2048, 1)
    stored = sum(entry[0][0] * (entry[0][1] if len(entry[0]) == 2 else 1) for entry in read_headers(tmp_path).values())
    assert shape.dense_bytes == 4 * stored
    assert shape.other_tensors == len(read_headers(tmp_path)) - 14
    assert shape.norm_entries == 5 * 32


def test_shards_are_read_by_their_index_and_a_single_file_hides_them(make_tiny_model, tmp_path: Path):
    whole = shape_from_headers(read_headers(make_tiny_model("llama", tmp_path / "whole")))
    sharded = make_tiny_model("llama", tmp_path / "sharded", max_shard_size="40KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    (sharded / "consolidated.safetensors").write_bytes((tmp_path / "whole" / "model.safetensors").read_bytes())
    assert shape_from_headers(read_headers(sharded)) == whole
    (sharded / "consolidated.safetensors").rename(sharded / "model.safetensors")
    assert shape_from_headers(read_headers(sharded)) == whole


def test_bfloat16_sources_are_priced_at_two_bytes(make_tiny_model, tmp_path: Path):
    headers = read_headers(make_tiny_model("llama", tmp_path))
    full = shape_from_headers(headers)
    half = shape_from_headers({name: (shape, "BF16") for name, (shape, _) in headers.items()})
    assert (half.site_dtype_bytes, 2 * half.dense_bytes, half.sites) == (2, full.dense_bytes, full.sites)


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, struct.pack("<Q", 4) + b"]]]]", struct.pack("<Q", 900) + b"{}"])
def test_a_file_that_is_no_safetensors_is_refused_by_name(content: bytes, tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: its header .* fetch it again"):
        read_headers(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_an_index_that_cannot_be_read_is_refused_by_name(content: str, tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"index\.json: not a readable index"):
        read_headers(tmp_path)


def test_an_absent_shard_is_refused_by_name(tmp_path: Path):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="model-00001-of-00002"):
        read_headers(tmp_path)


def test_tensors_without_blocks_or_of_strange_dtype_are_refused():
    with pytest.raises(ModelError, match="is this a transformer"):
        shape_from_headers({"table.weight": ((4, 4), "F32"), "norms.0.weight": ((4,), "F32")})
    with pytest.raises(ModelError, match=r"layers\.0\.q\.weight has the unknown dtype F4"):
        shape_from_headers({"layers.0.q.weight": ((4, 4), "F4")})


def test_globs_choose_by_name():
    assert select(NAMES, include=["*"], skip=[]) == frozenset(NAMES)
    assert select(NAMES, include=["*.0.*"], skip=["*up_proj"]) == {NAMES[0]}
    assert select(NAMES, include=[NAMES[2], "*up_proj"], skip=[]) == {NAMES[1], NAMES[2]}


@pytest.mark.parametrize(
    ("include", "skip", "message"),
    [
        (
            ["*.k_proj"],
            [],
            r'load\.include: no linear matches "\*\.k_proj"; a name looks like model\.layers\.0\.q_proj',
        ),
        (["*"], ["*.2.*"], r'load\.skip: no linear matches "\*\.2\.\*"'),
        (["*.0.*"], ["*_proj"], r"load\.skip: .* skips every linear that load\.include keeps"),
    ],
)
def test_globs_that_miss_are_refused(include: list[str], skip: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        select(NAMES, include=include, skip=skip)
