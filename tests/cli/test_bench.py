"""`liptt bench` from outside: engines in processes of their own, the dense one found, a table and one document."""

import json
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.cli.bench import bench_command
from liptt_cli.decoding import peer
from liptt_cli.errors import ConfigError, ModelError

SHORT = {"prompt_tokens": 5, "new_tokens": 3, "rounds": 2, "threads": 1}


@pytest.fixture(scope="module")
def told(packed_llama: Path, tiny_llama: Path) -> dict[str, Any]:
    """One run as a document, and all that it printed."""
    capture = pytest.MonkeyPatch()
    printed: dict[str, Any] = {"out": [], "err": []}
    capture.setattr("sys.stdout.write", printed["out"].append)
    capture.setattr("liptt_cli.cli.screen.warn", printed["err"].append)
    try:
        bench_command(str(packed_llama), against=str(tiny_llama), as_json=True, **SHORT)  # type: ignore[arg-type]
    finally:
        capture.undo()
    return {"document": json.loads("".join(printed["out"])), "err": "\n".join(printed["err"])}


def test_the_document_tells_speed_memory_and_the_floor_of_both(told: dict[str, Any]) -> None:
    document = told["document"]
    ours, dense = document["engines"]
    assert (ours["engine"], dense["engine"]) == ("lean", "transformers")
    for engine in (ours, dense):
        assert len(engine["rounds"]) == 2
        for key in ("decode_tokens_per_second", "prefill_tokens_per_second", "first_token_seconds"):
            assert 0 < engine[key]["low"] <= engine[key]["median"] <= engine[key]["high"]
        assert 0 < engine["memory_floor_share"]["median"] < 1
        assert engine["peak_bytes"] >= engine["resident_bytes"] > engine["idle_bytes"] > 0
    assert ours["packed_linears"] == 14
    assert sum(kernel["linears"] for kernel in ours["kernels"]) == 14
    assert document["ratios"][0]["to"] == "dense"
    assert document["ratios"][0]["decode"]["median"] > 0
    assert document["memory_floor"]["bytes_per_second"]["median"] > 0


def test_bytes_read_are_the_weights_but_one_row_of_the_embedding_and_the_cache(
    told: dict[str, Any], packed_llama: Path
) -> None:
    ours = told["document"]["engines"][0]
    blobs = json.loads((packed_llama / "liptt.json").read_text())["totals"]["payload_bytes"]
    plain = 320 * 32 + 32 + 5 * 32  # head, a row of the embedding, norms
    assert ours["weight_bytes_per_token"] == blobs + 4 * plain
    assert ours["cache_bytes_per_token"] == 2 * 2 * 2 * 8 * 4  # blocks, keys and values, heads, width, bytes
    assert ours["bytes_read_per_token"] == ours["weight_bytes_per_token"] + 6.5 * ours["cache_bytes_per_token"]


def test_tokens_and_logits_are_compared_with_transformers(told: dict[str, Any]) -> None:
    agreement = told["document"]["engines"][0]["agreement"]
    assert agreement["tokens"] == 3
    assert agreement["relative_difference"] < 0.02
    assert told["document"]["engines"][1]["agreement"] is None


def test_progress_comes_with_the_time_left(told: dict[str, Any]) -> None:
    assert "bench 1/10" in told["err"]
    assert "s left" in told["err"]
    assert "tokens/s" in told["err"]


def test_what_is_missing_is_said_and_the_rest_goes_on(
    packed_llama: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "why_absent", lambda: "llama.cpp is not here: pip install 'liptt")
    bench_command(str(packed_llama), peers=True, **{**SHORT, "rounds": 1})  # type: ignore[arg-type]
    printed = capsys.readouterr()
    for words in ("name it with --against to compare", "pip install 'liptt"):
        assert words in printed.out
        assert words in printed.err
    for words in ("this model, lean, float32", "5 tokens of prompt, 3 new ones", "memory floor", "tokens the same"):
        assert words in printed.out


@pytest.mark.slow
def test_an_error_in_an_engine_s_process_is_the_same_error_here(tiny_llama: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_llama.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="missing keys"):
        bench_command(str(broken), **SHORT)  # type: ignore[arg-type]


def test_more_tokens_than_positions_are_refused(packed_llama: Path) -> None:
    with pytest.raises(ConfigError, match="256 positions; give fewer of either"):
        bench_command(str(packed_llama), prompt_tokens=200, new_tokens=100)
