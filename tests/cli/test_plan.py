"""`liptt plan`: what it prints, and that it needs neither weights, torch, a network nor a second."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from liptt_cli.cli.plan import plan_command
from liptt_cli.errors import ConfigError, InputError

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from liptt_cli.cli.main import main
sys.argv = ["liptt", "plan", "--config", "llama7b.yaml"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = {"torch", "transformers", "numpy", "safetensors"} & set(sys.modules)
print(time.process_time(), *sorted(heavy), file=sys.stderr)
"""


def test_json_has_totals_and_a_row_a_linear(tiny_llama: Path, capsys: pytest.CaptureFixture[str]):
    plan_command("methods/liptt-ptq", overrides=[f"model={tiny_llama}", "bits_per_weight=2", UNIFORM], as_json=True)
    document = json.loads(capsys.readouterr().out)
    totals, linears = document["totals"], document["linears"]
    assert list(totals) == [
        *("method", "model", "linears", "weights", "bits_per_weight", "payload_bytes", "model_bytes"),
        *("dense_model_bytes", "table_bytes", "dense_table_bytes"),
        *("sign_additions", "multiplications", "dense_multiply_additions", "coverage"),
        "memory_bytes",
        *("allocator", "split"),
        *("fit_multiply_additions", "evidence_multiply_additions", "training_multiply_additions"),
    ]
    assert totals["fit_multiply_additions"] == sum(row["fit_multiply_additions"] for row in linears) > 0
    assert totals["evidence_multiply_additions"] == 0 < totals["training_multiply_additions"]
    assert (totals["allocator"], totals["split"]) == ("uniform", {"by": "uniform"})
    assert totals["linears"] == len(linears) == 14
    assert totals["payload_bytes"] == sum(row["bytes"] for row in linears)
    assert totals["weights"] == sum(row["shape"][0] * row["shape"][1] for row in linears)
    assert 1.5 < totals["bits_per_weight"] == 8 * totals["payload_bytes"] / totals["weights"] <= 2
    header = int.from_bytes((tiny_llama / "model.safetensors").read_bytes()[:8], "little")
    assert totals["dense_model_bytes"] == (tiny_llama / "model.safetensors").stat().st_size - 8 - header


def test_the_table_has_a_row_a_kind_and_six_sentences(tiny_llama: Path, capsys: pytest.CaptureFixture[str]):
    plan_command("methods/sign", overrides=[f"model={tiny_llama}"])
    printed = capsys.readouterr().out
    assert "down_proj" in printed and "64x32" in printed
    rows = [line for line in printed.splitlines() if "_proj" in line]
    assert len(rows) == 7
    assert all(row.split()[3] == "2" for row in rows)
    told = printed.splitlines()[-6:]
    assert f"sign on {tiny_llama}: 1.8889 bits per weight over 18,432 weights in 14 linears" in told[0]
    assert told[1] == "100.0% of the weights of the blocks' matrices are compressed."
    assert told[2].startswith("Whole model: ") and told[3].startswith("A token costs 18,432 sign additions and ")
    assert told[4].startswith("Peak memory of the compression, estimated: ")
    assert told[5].startswith("Multiply-adds of the compression, estimated: fits 0 ")


def test_much_that_stays_dense_is_warned_of_on_stderr(tiny_llama: Path, capsys: pytest.CaptureFixture[str]):
    skip = "load.skip=['*.mlp.up_proj', '*.k_proj']"
    for as_json in (False, True):
        plan_command("methods/sign", overrides=[f"model={tiny_llama}", skip], as_json=as_json)
        printed = capsys.readouterr()
        assert printed.err.startswith("warning: only 72.2% of the weights of the blocks' matrices are compressed; left")
        assert "model.layers.*.mlp.up_proj (22.22%), model.layers.*.self_attn.k_proj (5.56%)" in printed.err
    found = json.loads(printed.out)["totals"]["coverage"]
    assert found["share"] == pytest.approx(13 / 18)
    assert found["left_out"] == {"model.layers.*.mlp.up_proj": 4096, "model.layers.*.self_attn.k_proj": 1024}


KNAPSACK = "decompose.allocator={kind: knapsack, at_unit: bits, at_bits: [1.6, 2.4, 3.6]}"
UNIFORM = "decompose.allocator={kind: uniform}"


def test_a_knapsack_without_evidence_says_that_it_shows_the_uniform_split(
    tiny_llama: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"model={tiny_llama}", "bits_per_weight=2.4"]
    for as_json in (False, True):
        plan_command("methods/liptt-onestep", overrides=[*words, KNAPSACK], as_json=as_json)
        printed = capsys.readouterr().out
        plan_command("methods/liptt-onestep", overrides=[*words, UNIFORM], as_json=as_json)
        plain = capsys.readouterr().out
        if as_json:
            assert json.loads(printed)["linears"] == json.loads(plain)["linears"]
            assert json.loads(printed)["totals"]["allocator"] == "knapsack"
            assert json.loads(printed)["totals"]["split"] == {"by": "uniform"}
        else:
            told = "This is the uniform split, of equal total: the knapsack needs --evidence, which compress measures."
            assert told in printed and told not in plain


def test_evidence_for_a_uniform_split_and_evidence_that_is_none_are_refused(tiny_llama: Path, tmp_path: Path):
    words = [f"model={tiny_llama}", "bits_per_weight=2.4"]
    with pytest.raises(ConfigError, match="--evidence: decompose.allocator.kind is uniform"):
        plan_command("methods/liptt-onestep", overrides=[*words, UNIFORM], evidence=tmp_path)
    with pytest.raises(InputError, match="no evidence here"):
        plan_command("methods/liptt-onestep", overrides=[*words, KNAPSACK], evidence=tmp_path)


def test_an_export_that_would_lose_codes_is_refused_with_the_linears(tiny_llama: Path):
    words = [f"model={tiny_llama}", "export.to=[compressed-tensors]"]
    with pytest.raises(
        ConfigError, match="export.to: compressed-tensors cannot hold .* 14 of 14 linears, such as model"
    ):
        plan_command("methods/sign", overrides=words)
    plan_command("methods/sign", overrides=[*words, "binarize.codec.scale=[group]"])


def test_a_method_alone_has_no_price():
    with pytest.raises(ConfigError, match="model: a method alone has no price; add --set model="):
        plan_command("methods/sign")


def test_seven_billion_weights_are_priced_without_torch_in_under_a_second():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "liptt-onestep on huggyllama/llama-7b: 0.99" in ended.stdout or " 1.0000 bits per weight" in ended.stdout
    assert "over 6,476,005,376 weights in 224 linears" in ended.stdout
    seconds, *heavy = ended.stderr.split()
    assert heavy == []
    assert float(seconds) < 1.0
