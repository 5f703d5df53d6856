"""Stage 4: all blocks written again, what moved beside them, nothing where nothing was asked for."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from liptt_cli.packing.overlay import Overlay
from running import finish, finished, make_job, short


def test_no_steps_leave_nothing(tiny_llama: Path):
    job = finished(tiny_llama, "sign", *short("sign"))
    facts = job.run.facts("finetune")
    assert (facts["steps"], set(facts)) == (0, {"steps", "seconds", "peak_bytes"})
    assert job.block_files("finetune") == []


def test_blocks_are_written_again_and_norms_outside_beside_them(tiny_llama: Path):
    job = finished(tiny_llama, "liptt-onestep", *short("liptt-onestep"))
    files = job.block_files("finetune")
    assert [path.name for path in files] == ["block-000.safetensors", "block-001.safetensors", "outside.safetensors"]
    before, after = Overlay.read(job.block_files("binarize")), Overlay.read(files)
    assert before.forms == after.forms
    assert all(not torch.equal(before.blob(name), after.blob(name)) for name in before.forms)
    assert list(Overlay.read(files[2:]).tensors) == ["model.norm.weight"]
    stored = load_file(tiny_llama / "model.safetensors")
    norms = [name for name in after.tensors if "norm" in name]
    assert len(norms) == 5
    assert all(after.changed(name).dtype == torch.float32 for name in norms)
    assert all(not torch.equal(after.changed(name), stored[name]) for name in norms)
    assert [path.name for path in job.run.stage("finetune").iterdir() if path.suffix == ".pt"] == []


def test_the_facts_tell_the_losses(tiny_llama: Path):
    facts = finished(tiny_llama, "liptt-onestep", *short("liptt-onestep")).run.facts("finetune")
    assert (facts["steps"], facts["processes"], len(facts["losses"])) == (3, 1, 3)
    assert set(facts["parts"]["first"]) == set(facts["parts"]["last"]) == {"teacher_nats", "hidden_square", "lipschitz"}
    weights = {"teacher_nats": 1.0, "hidden_square": 1.0, "lipschitz": 0.01}
    for which, loss in (("first", facts["losses"][0]), ("last", facts["losses"][-1])):
        assert abs(sum(weights[part] * value for part, value in facts["parts"][which].items()) - loss) < 1e-5
    assert 0 <= facts["flip_share"] < 0.5


def test_only_what_is_named_moves(tiny_llama: Path, tmp_path: Path):
    words = short("liptt-onestep", "finetune.train=[scales]", "finetune.latent={kind: none}", "finetune.steps=2")
    job = make_job(tiny_llama, "liptt-onestep", *words, folder=tmp_path / "run")
    finish(job, until="finetune")
    before, after = (Overlay.read(job.block_files(stage)) for stage in ("binarize", "finetune"))
    assert [name for name in after.tensors if "norm" in name] == []
    assert job.run.facts("finetune")["flip_share"] is None
    moved = 0
    for name in before.forms:
        one, other = before.value(name), after.value(name)
        assert all(torch.equal(a.codes, b.codes) for a, b in zip(one.cores, other.cores, strict=True))
        moved += sum(not torch.equal(a, b) for a, b in zip(one.scales, other.scales, strict=True))
    assert moved > 30


def test_a_fine_tune_starts_from_the_tuned_blocks(tiny_llama: Path, tmp_path: Path):
    """With a vanishing learning rate, codes and scales stay those of the block tuning, and so do the norms."""
    still = "learning_rate: {codes: 1.0e-9, scales: 1.0e-9, norms: 1.0e-12}"
    finetune = f"finetune={{steps: 1, {still}, train: [codes, scales, norms], latent: {{kind: dense, source: signs}}}}"
    job = make_job(tiny_llama, "liptt-ptq", *short("liptt-ptq", finetune), folder=tmp_path / "run")
    finish(job, until="finetune")
    before, after = (Overlay.read(job.block_files(stage)) for stage in ("binarize", "finetune"))
    assert all(torch.equal(before.blob(name), after.blob(name)) for name in before.forms)
    for name in before.tensors:
        if "norm" in name:
            torch.testing.assert_close(after.changed(name), before.changed(name), rtol=0, atol=1e-7)
