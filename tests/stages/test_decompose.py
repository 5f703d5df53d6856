"""Stage 2: the forms are the plan's, under the names that the model itself uses."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

from liptt_cli.config import load_config
from liptt_cli.forms.base import blob_bytes
from liptt_cli.planning.architectures import model_shape
from liptt_cli.planning.plan import chosen_sites, structure
from running import finish, make_job, short


def test_forms_and_price_are_the_plan_s(tiny_llama: Path, tmp_path: Path):
    words = short("liptt-ptq", "decompose.allocator={kind: uniform}", "load.skip=['*.0.*down_proj']")
    job = make_job(tiny_llama, "liptt-ptq", *words, folder=tmp_path / "run")
    finish(job, until="decompose")
    config, shape = load_config("methods/liptt-ptq", overrides=list(words)).config, model_shape(tiny_llama)
    plan = structure(config, shape, chosen_sites(config, shape))
    assert job.forms == plan.forms
    assert len(plan.forms) == 13
    facts = job.run.facts("decompose")
    assert facts["payload_bytes"] == sum(map(blob_bytes, job.forms.values())) == plan.payload_bytes
    assert facts["bits_per_weight"] == plan.bits_per_weight
    assert (facts["weights"], facts["dense_operations"]) == (plan.weights, plan.weights)


def test_a_file_without_the_base_model_s_prefix_gets_the_model_s_names(
    make_tiny_model: Callable[..., Path], tmp_path: Path
):
    model = make_tiny_model("llama", tmp_path / "model", tie_word_embeddings=True)
    tensors = load_file(model / "model.safetensors")
    save_file(
        {name.removeprefix("model."): tensor for name, tensor in tensors.items()},
        model / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert model_shape(model).sites[0].name.startswith("layers.0.")
    job = make_job(model, "sign", *short("sign"), folder=tmp_path / "run")
    report = finish(job)
    assert set(job.forms) == {f"model.{site.name}" for site in model_shape(model).sites}
    assert report is not None and report["totals"]["weights"] == report["price"]["weights"]
