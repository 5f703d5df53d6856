"""The house itself: one version, valid configurations, a README of what exists, a set-up that refuses clearly."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from liptt_cli.cli.main import app
from liptt_cli.cli.methods import read_method
from liptt_cli.config import load_config, shipped_configs
from liptt_cli.version import VERSION

_ROOT = Path(__file__).parents[1]
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_CONFIGS = sorted((_ROOT / "configs").rglob("*.yaml"))
_LAUNCHERS = [path for path in _CONFIGS if path.parent.name == "accelerate"]
_SUITES = [path for path in _CONFIGS if path.parent.name == "suites"]
_RUNS = [path for path in _CONFIGS if path not in (*_LAUNCHERS, *_SUITES)]
_COMMANDS = typer.main.get_command(app).commands
_README = (_ROOT / "README.md").read_text()


def _pins() -> dict[str, str]:
    lines = [line for line in (_ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_the_changelog_begins_with_the_version():
    versions = re.findall(r"^## \[([^\]]+)\]", (_ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == VERSION


def test_the_number_of_configurations_is_known():
    assert len(_RUNS) == 32
    assert set(_RUNS) == set(shipped_configs().values())


@pytest.mark.parametrize("path", _RUNS, ids=lambda path: path.stem)
def test_every_configuration_is_valid_and_has_its_own_name(path: Path):
    config = load_config(str(path)).config
    assert path.parent.name != "methods" or config.method == path.stem
    assert (config.model is None) == (path.parent.name == "methods")


@pytest.mark.parametrize("path", _RUNS, ids=lambda path: path.stem)
def test_a_configuration_s_head_tells_title_and_command(path: Path):
    lines = path.read_text().splitlines()
    head = lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]
    assert re.fullmatch(r"# \S.{20,}", head[0])
    assert any(line.startswith("# liptt compress --config ") for line in head)
    assert path.parent.name != "methods" or any(line.startswith("# Paper: ") for line in head)


@pytest.mark.parametrize("path", [path for path in _RUNS if path.parent.name == "methods"], ids=lambda path: path.stem)
def test_a_method_tells_what_its_paper_claims_and_why_ours_differ(path: Path):
    assert sum(line.startswith("# Claims: ") for line in path.read_text().splitlines()) == 1
    method = read_method(path.stem, path)
    assert method.reason or (method.claimed_bits is not None and abs(method.claimed_bits - method.honest_bits) <= 0.02)


def test_the_pins_are_exact_and_within_the_ranges():
    pins = _pins()
    wanted = [Requirement(text) for text in _PROJECT["dependencies"] + _PROJECT["optional-dependencies"]["dev"]]
    for requirement in wanted:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    assert pins["torch"] == "2.13.0"


def test_readme_speaks_of_commands_that_exist():
    verbs = set(re.findall(r"^ *(?:\$ )?liptt ([a-z]+)", _README, re.MULTILINE)) | set(
        re.findall(r"`liptt ([a-z]+)", _README)
    )
    assert verbs
    assert verbs <= set(_COMMANDS)
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", _README))
    assert {"demo", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))


def test_readme_speaks_of_options_that_exist():
    for verb, rest in re.findall(r"liptt ([a-z]+)([^`\n]*)", _README):
        known = {option for parameter in _COMMANDS[verb].params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, f"liptt {verb}{rest}"


def test_readme_speaks_of_files_that_exist():
    tree = _README.partition("## The tree")[2].partition("\n## ")[0]
    paths = [word for word in re.findall(r"[\w./]+", tree) if word.endswith(("/", ".py"))]
    assert len(paths) > 10
    assert [path for path in paths if not any((top / path).exists() for top in (_ROOT, _ROOT / "src/liptt_cli"))] == []


def test_readme_is_short():
    assert len(_README.splitlines()) <= 180


def test_continuous_integration_calls_the_same_targets():
    script = _ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert [line for line in script.read_text().splitlines() if line.startswith("make")] == ["make check", "make test"]


def test_no_room_without_a_name_and_no_long_file():
    files = [*(_ROOT / "src").rglob("*.py"), *(_ROOT / "tests").rglob("*.py")]
    assert not {"utils.py", "helpers.py", "common.py"} & {path.name for path in files}
    assert [str(path.relative_to(_ROOT)) for path in files if len(path.read_text().splitlines()) > 300] == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 127", "set-up: no "),
        ('case "$*" in *version_info*) exit 1;; --version) echo Python 3.9.1;; esac', "Python 3.9.1 is too old"),
        ('case "$*" in *ensurepip*) exit 1;; --version) echo Python 3.12.1;; esac', "no venv module"),
    ],
)
def test_set_up_refuses_what_cannot_work(tmp_path: Path, script: str, message: str):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    command = [_ROOT / "scripts" / "set_up.sh", str(python), "."]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_set_up_refuses_a_disk_that_is_too_full(tmp_path: Path):
    (tmp_path / "df").write_text("#!/bin/sh\necho head\necho /dev/x 9 9 5000000 9% /\n")
    (tmp_path / "df").chmod(0o755)
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "set_up.sh"
    script.write_text((_ROOT / "scripts" / "set_up.sh").read_text())
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(script), "python3", "."]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 2
    assert ended.stderr == "set-up: 5 GB of disk are free here; 6 GB are needed\n"
