"""The record of an export: kinds counted, files hashed, and a card that tells where the model comes from."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from exports.writing import opened
from liptt_cli.exports.carrying import Carried
from liptt_cli.exports.record import NAME, Record, hashes, rows_of, write_card


def record_of(directory: Path) -> Record:
    manifest = opened(directory).manifest
    names = list(manifest.linears)
    carried = {name: Carried("exact", "Q1_0") for name in names} | {names[0]: Carried("densified", "F16", "a chain")}
    rows = rows_of(manifest, carried, written=dict.fromkeys(names, 7), differences=dict.fromkeys(names, 0.5))
    return Record("gguf", manifest, rows, {"tensors": 3}, 1234, notes=("it slides",))


def test_a_row_has_sizes_kind_and_reason(signs_llama: Path) -> None:
    record = record_of(signs_llama)
    first, *_ = record.linears
    row = record.to_json()["linears"][first]
    assert row == {
        **{"kind": "densified", "type": "F16", "reason": "a chain", "written_bytes": 7, "largest_difference": 0.5},
        "packed_bytes": record.manifest.linears[first].bytes,
    }
    assert record.kinds() == {"densified (F16)": 1, "exact (Q1_0)": len(record.linears) - 1}


def test_files_are_hashed_and_the_record_is_written(signs_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"numbers")
    record = replace(record_of(signs_llama), files=hashes(tmp_path))
    record.write(tmp_path)
    found = json.loads((tmp_path / NAME).read_text())
    assert found["files"] == {"model.gguf": {"bytes": 7, "sha256": hashlib.sha256(b"numbers").hexdigest()}}
    assert found["origin"]["model"] == "tiny-llama" and found["file_bytes"] == 1234 and found["to"] == "gguf"


def test_the_card_tells_provenance_sizes_kinds_and_notes(signs_llama: Path, tmp_path: Path) -> None:
    write_card(record_of(signs_llama), tmp_path)
    said = (tmp_path / "README.md").read_text()
    for words in ("tiny-llama for gguf", "| method | sign", "1 densified (F16)", "1,234 bytes"):
        assert words in said
    assert "Note: it slides." in said and "licence of the source model applies" in said
