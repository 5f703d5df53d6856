"""Every family through all six stages, and back: the reloaded model's logits are those of the model in memory.

Also every layout and number of cores, sources stored in bfloat16, and the claim of the name: nothing but scales stands
between two cores.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import liptt_cli  # noqa: F401 - registers the packed format
from liptt_cli.formats.chain import Chain
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.surgery import thawed
from liptt_cli.layers.trainable import TrainableLinear
from liptt_cli.packing.overlay import Overlay
from liptt_cli.stages.assemble import compressed_model
from liptt_cli.stages.job import Job
from running import finished, in_bfloat16, short

ROOT = Path(__file__).parents[2]
IDS = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(5))
OBJECTIVES = "[{kind: teacher_nats}, {kind: hidden_square}, {kind: lipschitz, weight: 0.01}]"
WHOLE = (  # block tuning and a fine-tune, three steps each
    "finetune={steps: 3, batch_windows: 4, train: [codes, scales, norms], latent: {kind: dense}}",
    f"finetune.objectives={OBJECTIVES}",
)
ONE_STEP = ("binarize.solver.iterations=2", "binarize.codes.steps=1", "finetune.steps=1")
METHODS = {"sign": short("sign"), "liptt-ptq": short("liptt-ptq", *WHOLE)}
PROGRAM = """
import hashlib, sys
import liptt_cli
import torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(1)
ids = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(5))
with torch.no_grad():
    logits = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)(input_ids=ids).logits
print(hashlib.sha256(logits.numpy().tobytes()).hexdigest())
"""


@torch.no_grad()
def in_memory(job: Job) -> Tensor:
    return compressed_model(job, job.result_files())(input_ids=IDS).logits


@torch.no_grad()
def reloaded(job: Job) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(job.run.path / "model", dtype=torch.float32)
    assert sum(isinstance(module, PackedLinear) for module in model.modules()) == len(job.forms)
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("method", METHODS)
def test_every_family_comes_back_bit_for_bit(method: str, tiny_models: Path):
    job = finished(tiny_models, method, *METHODS[method])
    logits = reloaded(job)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, in_memory(job))
    with torch.no_grad():
        dense = AutoModelForCausalLM.from_pretrained(tiny_models)(input_ids=IDS).logits
    assert not torch.allclose(logits, dense, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_compressed_is_kept_as_it_was(method: str, tiny_models: Path):
    """Biases, tables, learned positions and buffers byte by byte; norms move only where they train."""
    job = finished(tiny_models, method, *METHODS[method])
    source, packed = (
        load_file(tiny_models / "model.safetensors"),
        load_file(job.run.path / "model" / "model.safetensors"),
    )
    assert set(source) == set(packed)
    moved = {name for name in source if not torch.equal(source[name], packed[name])}
    blobs = {f"{name}.weight" for name in job.forms}
    norms = {name for name in moved - blobs if "norm" in name}
    assert moved == blobs | norms
    assert bool(norms) == (method != "sign")


def test_a_fresh_process_finds_the_same_logits(tiny_llama: Path):
    job = finished(tiny_llama, "liptt-ptq", *METHODS["liptt-ptq"])
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(job.run.path / "model")],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == hashlib.sha256(in_memory(job).numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("method", METHODS)
def test_sources_stored_in_bfloat16(method: str, tiny_llama: Path):
    job = finished(in_bfloat16(tiny_llama), method, *METHODS[method])
    assert job.run.facts("load")["dtype"] == "float32"
    assert torch.equal(reloaded(job), in_memory(job))
    packed = load_file(job.run.path / "model" / "model.safetensors")
    assert packed["model.embed_tokens.weight"].dtype == torch.bfloat16
    trained = torch.bfloat16 if method == "sign" else torch.float32
    assert packed["model.norm.weight"].dtype == trained
    half = AutoModelForCausalLM.from_pretrained(job.run.path / "model", dtype=torch.bfloat16)
    assert torch.isfinite(half(input_ids=IDS).logits).all()


@pytest.mark.parametrize("cores", [2, 3, 4])
@pytest.mark.parametrize("layout", ["split", "mpo"])
def test_every_layout_and_number_of_cores(layout: str, cores: int, tiny_llama: Path):
    factor = (f"decompose.factor.layout={layout}", f"decompose.factor.cores={cores}", "bits_per_weight=2.5")
    job = finished(tiny_llama, "liptt-ptq", *short("liptt-ptq", *ONE_STEP, *factor))
    for form in job.forms.values():
        assert len(form.cores) == cores
        assert (form.pair_bond is None) == (layout == "mpo")
    assert torch.equal(reloaded(job), in_memory(job))


@pytest.mark.parametrize("method", ["liptt-onestep", "liptt-ptq"])
def test_nothing_but_scales_stands_between_two_cores(method: str, tiny_llama: Path):
    """In the packed model a compressed linear is bytes; in training its parts are latents and scale vectors."""
    job = finished(tiny_llama, method, *short(method))
    overlay, model = Overlay.read(job.result_files()), compressed_model(job, job.result_files())
    values = {name: overlay.value(name) for name in overlay.forms}
    for name in values:
        packed = model.get_submodule(name)
        assert [type(part) for part in packed.modules()] == [PackedLinear]
        assert [parameter for parameter, _ in packed.named_parameters()] == ["weight"]
    options = job.config.finetune if job.config.finetune.steps else job.config.binarize.codes
    for name, module in thawed(model, values, tuning=options).items():
        parts = {type(part).__name__ for part in module.modules()}
        parts -= {"SignCodes", "FixedCodes"}  # what the codes of a grid come from
        assert parts == {"TrainableLinear", "ChainLatent", "ModuleList", "GridLatent", "ModuleDict", "ScaleLatent"}
        assert [part for part, _ in module.named_parameters() if not _is_scale_or_core(part)] == []
        _require_plain_product(module, values[name])


def _is_scale_or_core(name: str) -> bool:
    return re.fullmatch(r"latent\.(cores\.\d+\.codes\.latent|scales\.\d+\.relative)", name) is not None


def _require_plain_product(module: nn.Module, value: object) -> None:
    """The module is diag(s) B diag(g) B diag(s) times its input and nothing else, whatever the input."""
    assert isinstance(module, TrainableLinear) and isinstance(value, Chain)
    assert all(core.scale is None and core.shift is None for core in value.cores)
    left, right = (2.0 * core.codes[0] - 1 for core in value.cores)
    out, bond, into = (scale.float() for scale in value.scales)
    x = torch.randn(3, len(into), generator=torch.Generator().manual_seed(6)) * torch.tensor([[1.0], [100.0], [-1e-3]])
    product = out * ((bond * ((into * x) @ right.T)) @ left.T)
    torch.testing.assert_close(module(x), product, rtol=1e-4, atol=1e-6)
