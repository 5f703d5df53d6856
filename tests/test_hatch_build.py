"""The build step: an extension where there is a compiler, and an installation without one that still runs."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kernels_here import compiler

_ROOT = Path(__file__).parents[1]
_PRODUCT = """
from liptt_cli.kernels.dispatch import chosen
from liptt_cli.kernels.native import kernels
print(chosen().name, bool(kernels()), chosen().reason)
"""


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", _ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("broken", ["/bin/false", "no-such-compiler-anywhere"])
def test_without_a_compiler_nothing_is_left_and_the_reason_is_told(build, broken, tmp_path, monkeypatch):
    (tmp_path / "kernel.so").write_bytes(b"another version's")
    monkeypatch.setenv("CC", broken)
    assert broken.rpartition("/")[2] in build.compile_kernels(_ROOT, tmp_path / "kernel.so")
    assert list(tmp_path.iterdir()) == []


def test_with_a_compiler_there_is_one_extension_or_a_reason(build, tmp_path):
    problem = build.compile_kernels(_ROOT, tmp_path / "kernel.so")
    assert (tmp_path / "kernel.so").is_file() == (problem is None)
    works = subprocess.run([*compiler(), "--version"], capture_output=True, check=False).returncode == 0
    assert problem is None or not works or sys.platform not in ("linux", "darwin")


@pytest.mark.slow
def test_installation_without_a_compiler_succeeds_and_runs_on_torch(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    _copy_sources(source)
    monkeypatch.setenv("CC", "/bin/false")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command = [*pip, "--disable-pip-version-check", "--target", str(target), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert list(target.rglob("_native*.so")) == []
    monkeypatch.setenv("PYTHONPATH", str(target))
    found = subprocess.run([sys.executable, "-c", _PRODUCT], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.startswith("torch False the compiled kernels are not here")


def _copy_sources(target: Path) -> None:
    left_out = shutil.ignore_patterns("*.so", "__pycache__", "*.safetensors")
    for name in ("src", "configs"):
        shutil.copytree(_ROOT / name, target / name, ignore=left_out)
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copyfile(_ROOT / name, target / name)
