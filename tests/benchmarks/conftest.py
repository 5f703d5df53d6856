"""The benchmark's modules on the path, a model of two blocks to price, and results made up for the tables."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from cells import FULL
from setting import Setting

WIDTH, INNER, VOCABULARY = 64, 128, 32
SHAPES = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"), (WIDTH, WIDTH)),
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), (INNER, WIDTH)),
    "mlp.down_proj": (WIDTH, INNER),
}


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A place to work in, with a reference model and without outside data."""
    model = tmp_path / "model"
    model.mkdir()
    tensors = {
        f"model.layers.{block}.{name}.weight": np.zeros(shape, dtype=np.float16)
        for block in range(2)
        for name, shape in SHAPES.items()
    }
    tensors["model.embed_tokens.weight"] = np.zeros((VOCABULARY, WIDTH), dtype=np.float16)
    save_file(tensors, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf8")
    return Setting(model, tmp_path / "nowhere", tmp_path / "results", tmp_path / "work", FULL, 1)


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write a made-up result of a cell, and return the folder of results."""

    def write(key: str, method: str, *, bits: float, excess: float, **more: Any) -> Path:
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{key}.json").write_text(json.dumps({**_result(method, bits, excess), **more}), encoding="utf8")
        return folder

    return write


def _result(method: str, bits: float, excess: float) -> dict[str, Any]:
    dense = method == "dense"
    corpus = {"tokens": 1000, "nats": 3 + excess, "excess": excess, "excess_standard_error": 0.0 if dense else 0.01}
    spread = 50 if method.startswith("liptt") else -50  # so that pairs of methods differ
    corpus["excess_windows"] = f"{round(1e4 * excess) - spread} {round(1e4 * excess) + spread}"
    task = {"accuracy": 0.7, "kept": 1.0 if dense else 0.8, "kept_standard_error": 0.05}
    return {
        "status": "ok",
        "scale": "full",
        "commit": "abc",
        "hardware": {"processor": "a processor", "cores": 2},
        "versions": {"python": "3.11.7"},
        "threads": 1,
        "price": {
            "weights": 1000,
            "bits_per_weight": bits,
            "code_bits_per_weight": 0.9 * bits,
            "sign_additions": int(850 * min(bits, 1)),
            "multiplications": 0,
            "bf16_bytes": 4000,
        },
        "totals": None if dense else {"file_bytes": 1000, "dense_bf16_bytes": 4000},
        "corpora": {"stdlib": corpus},
        "tasks": {"blimp": task},
        "seconds": {"binarize": 2.0, "export": 1.0, "measure": 5.0, "all": 8.0, "all_cpu": 7.0},
        "peak_bytes": {"compress": None if dense else 600_000_000, "measure": 500_000_000},
    }
