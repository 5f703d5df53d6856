"""`liptt` from outside: help of every verb, usage errors, start-up without torch, broken pipes."""

import json
import os
import subprocess
import sys

import pytest
import typer

from liptt_cli.cli.main import _COMMANDS, app
from liptt_cli.kernels.dispatch import chosen
from liptt_cli.version import VERSION

_VERBS = [name for name, _, _ in _COMMANDS]
_WITHOUT_TORCH = [verb for verb in _VERBS if verb in ("validate", "schema", "methods", "plan")]
_PROBE = """\
import atexit, sys
heavy = {"torch", "transformers", "lm_eval", "datasets", "accelerate"}
atexit.register(lambda: print("LOADED", sorted(heavy & set(sys.modules)), file=sys.stderr))
from liptt_cli.cli.main import main
main(sys.argv[1:])
"""


def _liptt(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "liptt_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def _loaded(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", _PROBE, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr.rpartition("LOADED")[2].strip()


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        typer.main.get_command(app).main(args=list(arguments), prog_name="liptt")
    return int(ended.value.code or 0)


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]):
    assert _run(verb, "--help") == 0
    printed = capsys.readouterr().out
    assert f"liptt {verb}" in printed
    assert len(printed.splitlines()) > 5


@pytest.mark.parametrize("verb", _VERBS)
def test_an_unknown_option_is_a_usage_error(verb: str, capsys: pytest.CaptureFixture[str]):
    assert _run(verb, "--confg", "x") == 2
    assert "--confg" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("validat",), ("-v", "-q", "schema"), ("validate",)])
def test_usage_errors_end_with_2(arguments: tuple[str, ...]):
    assert _run(*arguments) == 2


def test_help_names_every_verb_in_two_panels_with_examples(capsys: pytest.CaptureFixture[str]):
    assert _run("--help") == 0
    printed = capsys.readouterr().out
    assert all(f"│ {verb} " in printed for verb in _VERBS)
    assert "Examples:" in printed
    assert "Exit status:" in printed


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_on_stdout(option: str):
    ended = _liptt(option)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"liptt {VERSION}\n", "")


@pytest.mark.parametrize(
    "arguments", [["--help"], *([verb, "--help"] for verb in _WITHOUT_TORCH), ["schema"], ["validate", "absent"]]
)
def test_nothing_heavy_is_loaded_where_nothing_is_computed(arguments: list[str]):
    status, loaded = _loaded(*arguments)
    assert status in (0, 2)
    assert loaded == "[]"


def test_the_schema_is_one_document():
    schema = json.loads(_liptt("schema").stdout)
    assert schema["additionalProperties"] is False
    assert {"model", "bits_per_weight", "binarize"} <= set(schema["properties"])


def test_a_reader_that_goes_away_is_no_failure():
    command = [sys.executable, "-m", "liptt_cli", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate()
    assert (process.returncode, said) == (0, b"")


def test_doctor_is_paste_able_and_json():
    facts = json.loads(_liptt("doctor", "--json").stdout)
    assert facts["liptt"] == VERSION
    assert facts["threads"] >= 1
    assert facts["memory_bytes"] > 0
    assert (facts["kernel"], facts["kernel_reason"]) == (chosen().name, chosen().reason)
    assert facts["kernel"] == "torch" or facts["kernel"] in facts["kernels"].split()
    assert set(facts) == {line.split()[0] for line in _liptt("doctor").stdout.splitlines()}


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {}])
def test_no_colour_in_a_pipe(environment: dict[str, str]):
    assert "\x1b[" not in _liptt("--no-color", "validate", "absent", FORCE_COLOR="1", **environment).stderr
