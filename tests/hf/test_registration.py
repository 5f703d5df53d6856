"""How the plug-in reaches transformers: in fresh processes, in both orders of import, and what happens without it."""

import subprocess
import sys
from pathlib import Path

LOAD = "AutoModelForCausalLM.from_pretrained({directory!r}).model.layers[0].mlp.up_proj.value()"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_plug_in_registers_when_transformers_came_first(packed_llama: Path) -> None:
    load = LOAD.format(directory=str(packed_llama))
    done = run(f"from transformers import AutoModelForCausalLM; import liptt_cli; {load}")
    assert done.returncode == 0, done.stderr


def test_without_the_import_loading_raises(packed_llama: Path) -> None:
    code = f"from transformers import AutoModelForCausalLM; {LOAD.format(directory=str(packed_llama))}"
    done = run(code)
    assert done.returncode != 0
    assert "RuntimeError" in done.stderr and "mismatch" in done.stderr


def test_the_plug_in_registers_when_transformers_comes_later_and_leaves_its_loaders_alone(packed_llama: Path) -> None:
    code = f"""
import sys, liptt_cli
assert not {{"torch", "transformers"}} & set(sys.modules)
assert "_Waiting" in {{type(finder).__name__ for finder in sys.meta_path}}
from transformers import AutoModelForCausalLM
import transformers.quantizers as registry
assert type(registry.__loader__).__name__ == type(registry.__spec__.loader).__name__ == "SourceFileLoader"
assert "_Waiting" not in {{type(finder).__name__ for finder in sys.meta_path}}
{LOAD.format(directory=str(packed_llama))}
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_help_needs_no_torch() -> None:
    code = """
import runpy, sys
sys.argv = ["liptt", "--help"]
try:
    runpy.run_module("liptt_cli", run_name="__main__")
except SystemExit as end:
    assert not end.code
assert not {"torch", "transformers"} & set(sys.modules)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "compress" in done.stdout
