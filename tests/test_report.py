"""The report: a small stable schema, lines for people, and numbers that are the manifest's."""

import json
from pathlib import Path
from typing import Any

import pytest

from liptt_cli.packing.manifest import read_manifest
from liptt_cli.run_directory import STAGES
from running import evaluated, finished, short

KEYS = {
    *(
        "version",
        "run",
        "method",
        "model",
        "claims",
        "coverage",
        "experts",
        "price",
        "allocation",
        "totals",
        "linears",
        "tables",
        "evaluation",
        "lipschitz",
    ),
    *("block_tuning", "healed", "finetune", "corpus", "stages"),
}


@pytest.fixture(scope="module")
def report(tiny_llama: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((evaluated(tiny_llama, "liptt-onestep").run.path / "report.json").read_text())
    return found


def test_the_schema_is_stable(report: dict[str, Any]):
    assert set(report) == KEYS
    assert report["version"] == 1
    assert set(report["claims"]) == {"size_against_bf16", "operations", "accuracy_kept"}
    assert set(report["price"]) == {
        *("weights", "payload_bytes", "bits_per_weight", "sign_additions", "multiplications", "dense_operations"),
        "table_bytes",
    }
    assert set(report["totals"]) == {
        *("payload_bytes", "weights", "bits_per_weight", "file_bytes", "dense_file_bytes", "dense_bf16_bytes"),
        *("sign_additions", "multiplications"),
    }
    assert set(report["allocation"]) == {"roles", "blocks", "predicted_costs"}
    assert list(report["allocation"]["blocks"]) == ["0", "1"] and len(report["allocation"]["roles"]) == 7
    assert set(report["evaluation"]) == {"dense", "compressed", "differences", "calibrated_on"}
    assert set(report["lipschitz"]) == {"before", "after"}
    assert set(report["finetune"]) == {"steps", "processes", "losses", "parts", "flip_share"}
    assert set(report["corpus"]) == {"name", "sha256", "tokens"}
    assert list(report["stages"]) == list(STAGES)
    assert all(each["seconds"] >= 0 and each["peak_bytes"] > 10**7 for each in report["stages"].values())
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_numbers_are_the_manifest_s(report: dict[str, Any], tiny_llama: Path):
    run = evaluated(tiny_llama, "liptt-onestep").run.path
    totals = read_manifest(run / "model").totals
    for key in ("payload_bytes", "weights", "sign_additions", "multiplications"):
        assert report["totals"][key] == report["price"][key] == getattr(totals, key)
    assert report["price"]["bits_per_weight"] == totals.bits_per_weight
    files = sum(path.stat().st_size for path in (run / "model").glob("*.safetensors"))
    assert report["totals"]["file_bytes"] == files
    assert report["claims"]["size_against_bf16"] == files / totals.dense_bf16_bytes - 1
    operations = totals.sign_additions + totals.multiplications
    assert report["claims"]["operations"] == operations / report["price"]["dense_operations"] - 1
    assert {name: round(facts["bits_per_weight"], 6) for name, facts in report["linears"].items()} == {
        name: round(linear.bits_per_weight, 6) for name, linear in read_manifest(run / "model").linears.items()
    }


def test_the_ratios_before_and_after_are_told_by_block(report: dict[str, Any], tiny_llama: Path):
    text = (evaluated(tiny_llama, "liptt-onestep").run.path / "report.md").read_text()
    table = text.partition("## Lipschitz retention: student's to teacher's gain")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split() for line in table.splitlines() if line.startswith("| ")][2:]
    for before, after, row in zip(report["lipschitz"]["before"], report["lipschitz"]["after"], rows, strict=True):
        assert row[0] == str(before["block"])
        assert row[4:7:2] == [f"{before['ratio']:.3f}", f"{after['ratio']:.3f}"]


def test_the_lines_tell_bits_claims_quality_training_and_cost(report: dict[str, Any], tiny_llama: Path):
    lines = (evaluated(tiny_llama, "liptt-onestep").run.path / "report.md").read_text().splitlines()
    assert lines[0] == f"# liptt-onestep on {tiny_llama.name}: {report['price']['bits_per_weight']:.4f} bits per weight"
    assert (
        f"{report['totals']['file_bytes']:,} bytes; dense in bf16: {report['totals']['dense_bf16_bytes']:,}."
        in lines[2]
    )
    assert lines[4] == (
        f"Size, operations, accuracy kept: {report['claims']['size_against_bf16']:+.1%}, "
        f"{report['claims']['operations']:+.1%}, -"
    )
    heads = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert heads[0] == "Quality" and heads[2] == "Fine-tune: 3 steps" and heads[-1] == "Cost"
    assert any(line.startswith("Codes that flipped: ") for line in lines)
    assert [line.split()[1] for line in lines[-6:]] == list(STAGES)


def test_a_run_that_measured_nothing_has_the_same_keys(tiny_llama: Path):
    run = finished(tiny_llama, "sign", *short("sign")).run.path
    report = json.loads((run / "report.json").read_text())
    assert set(report) == KEYS
    assert report["evaluation"] == {"dense": None, "compressed": None, "differences": None, "calibrated_on": None}
    assert report["lipschitz"] is None
    assert report["finetune"] == {"steps": 0}
    text = (run / "report.md").read_text()
    assert [head for head in ("## Quality", "## Lipschitz", "## Fine-tune") if head in text] == []


def test_where_the_bits_went_is_told_if_evidence_chose(tiny_llama: Path):
    allocator = "decompose.allocator={kind: knapsack, at_unit: bits, at_bits: [1.6, 2.6], iterations: 1, windows: 2}"
    words = short("liptt-onestep", "bits_per_weight=2.4", "finetune.steps=0", allocator)
    run = finished(tiny_llama, "liptt-onestep", *words).run.path
    found = json.loads((run / "report.json").read_text())["allocation"]
    assert found["predicted_costs"]["chosen"] < found["predicted_costs"]["uniform"]
    assert found["roles"]["value"]["least"] <= found["roles"]["value"]["mean"] <= found["roles"]["value"]["most"]
    text = (run / "report.md").read_text().partition("## Where the bits went")[2].partition("\n## ")[0]
    assert f"| block 1 | {found['blocks']['1']['least']:.3f}" in text.replace("  ", " ").replace("  ", " ")
    assert f"of the uniform split: {found['predicted_costs']['uniform']:.4g}" in text
    assert "Where the bits went" not in (evaluated(tiny_llama, "sign").run.path / "report.md").read_text()
