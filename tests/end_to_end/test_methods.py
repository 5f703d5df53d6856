"""Every shipped recipe on a tiny model, made short: compressed, packed, read back bit for bit, verified."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import liptt_cli  # noqa: F401 - registers the packed format
from liptt_cli.cli.verify import verify_command
from liptt_cli.config import load_config, shipped_configs
from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.packing.manifest import read_manifest
from liptt_cli.stages.assemble import compressed_model
from running import SMALL, finished

MakeTinyModel = Callable[..., Path]
METHODS = [name.removeprefix("methods/") for name in shipped_configs() if name.startswith("methods/")]
IDS = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(5))


def shortened(config: RunConfig) -> list[str]:
    """Return the overrides that leave one step of each training, two iterations of each solver, and a dial in reach."""
    found = [*SMALL, "evaluate.lipschitz=false"]
    if config.bits_per_weight is not None:
        found.append("bits_per_weight=3.0")
    if isinstance(config.decompose.allocator, Knapsack):
        found.append("decompose.allocator={kind: uniform}")
    binarize = config.binarize
    if hasattr(binarize.solver, "iterations"):
        found.append("binarize.solver.iterations=2")
    tunings = {
        "decompose.heal": config.decompose.heal,
        "binarize.rest": binarize.rest,
        "binarize.codes": binarize.codes,
        "finetune": config.finetune,
    }
    for place, tuning in tunings.items():
        if tuning.trains:
            found += [f"{place}.epochs=null", f"{place}.steps=1", f"{place}.batch_windows=4"]
            last = [k for k, each in enumerate(tuning.objectives) if getattr(each, "drop_last", False)]
            found += [f"{place}.objectives.{k}.drop_last=false" for k in last]  # there is one block
    return found


@pytest.fixture(scope="module")
def one_block(make_tiny_model: MakeTinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny Llama of one block."""
    return make_tiny_model("llama", tmp_path_factory.mktemp("tiny") / "one-block", num_hidden_layers=1)


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_is_packed_and_comes_back_bit_for_bit(
    method: str, one_block: Path, capsys: pytest.CaptureFixture[str]
):
    job = finished(one_block, method, *shortened(load_config(f"methods/{method}").config))
    packed = job.run.path / "model"
    with torch.no_grad():
        there = compressed_model(job, job.result_files())(input_ids=IDS).logits
        back = AutoModelForCausalLM.from_pretrained(packed, dtype=torch.float32)(input_ids=IDS).logits
    assert bool(torch.isfinite(back).all())
    assert torch.equal(back, there)
    assert len(read_manifest(packed).linears) == len(job.forms)
    capsys.readouterr()
    verify_command(str(packed))
    assert "sound" in capsys.readouterr().out
