"""The synthetic Llama is a whole packed model of the bits it says, and the table judges by the issue's numbers."""

import json
from pathlib import Path

import pytest
import torch
from decode import DENSE, HALF_BIT, ONE_BIT, SIGN, TERNARY, _one_core_busy, _rows
from synthetic import sign, two_factor, write_codes, write_dense
from targets import Target

from liptt_cli.decoding.comparison import Comparison, Measured, Plan
from liptt_cli.decoding.decoder import Decoder
from liptt_cli.metrics.speed import Round, Spread
from liptt_cli.models import hub
from liptt_cli.packing.artifact import verify_files

SHAPE = {
    "num_hidden_layers": 1,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 64,
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("synthetic") / "dense", SHAPE)


@pytest.mark.parametrize(("made", "bits"), [(sign, 1.125), (two_factor(1.0), 1.0), (two_factor(0.5), 0.5)])
def test_packed_models_are_whole_and_of_the_bits_they_say(made, bits, dense: Path, tmp_path: Path) -> None:
    directory = write_codes(tmp_path / "packed", dense=dense, made=made)
    verify_files(directory)
    totals = json.loads((directory / "liptt.json").read_text())["totals"]
    assert bits - 0.08 < 8 * totals["payload_bytes"] / totals["weights"] <= bits
    model = hub.load_model(hub.locate(str(directory)), dtype=torch.float32)
    assert torch.isfinite(Decoder(model, capacity_tokens=4).prefill([1, 2, 3])).all()


def measured(name: str, decode_seconds: float, prefill_seconds: float) -> Measured:
    found = Round(
        128,
        prefill_seconds=prefill_seconds,
        steps=10,
        decode_seconds=decode_seconds,
        prefill_processor_seconds=prefill_seconds,
        decode_processor_seconds=decode_seconds,
    )
    return Measured(name, {"weight_bytes_per_token": 1, "cache_bytes_per_token": 0}, (found, found), (1,), None, 0.0)


def test_the_table_compares_within_the_run() -> None:
    engines = (
        measured(SIGN, 1.0, 1.0),
        measured(ONE_BIT, 1.5, 1.0),
        measured(HALF_BIT, 1.0, 1.0),
        measured(DENSE, 10.0, 3.0),
        measured(TERNARY, 2.0, 1.0),
    )
    found = Comparison(Plan(128, 11, 2, 64), engines, (1e9, 1e9))
    rows = _rows(found, [{"times_slower": {"median": 1.4, "low": 1.0, "high": 5.0}}])
    assert [(row.measured.median, row.verdict) for row in rows] == [
        (10.0, "must"),
        (2.0, "aim"),
        (3.0, "must"),
        (1.5, "missed"),
        (1.4, "aim"),
    ]


def test_a_number_below_the_must_is_missed() -> None:
    assert Target("", Spread(7.9, 7.9, 7.9), 8, 12).verdict == "missed"
    assert Target("", Spread(2.1, 2.1, 2.1), 2, 2, at_most=True).verdict == "missed"


def test_the_busy_process_is_gone_afterwards() -> None:
    with _one_core_busy() as process:
        assert process.poll() is None
    assert process.poll() is not None
