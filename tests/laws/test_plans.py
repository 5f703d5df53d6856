"""The law of the plan: over every shipped recipe, its bytes are those of the blobs in the exported file."""

from pathlib import Path

import pytest

from liptt_cli.config import configs_folder, load_config
from liptt_cli.forms.base import ALIGNMENT_BYTES
from liptt_cli.menu.decompose import Uniform
from liptt_cli.planning.architectures import find_shape
from liptt_cli.planning.evidence import check, read_evidence
from liptt_cli.planning.plan import Plan, chosen_sites, structure, with_rates
from liptt_cli.planning.sites import read_headers
from liptt_cli.run_directory import STAGES
from liptt_cli.stages.job import Job
from running import finished, in_bfloat16, short

RECIPES = sorted(path.stem for path in (configs_folder() / "methods").glob("*.yaml"))

AT_MOST = {  # the data decide how many entries are salient; the plan has the most there can be, up to padding
    *("hbllm", "hbllm-col", "billm", "billm-code", "arb-llm", "arb-llm-plain", "arb-llm-rc", "arb-llm-x", "stbllm"),
}


def plan_of(job: Job, method: str, *overrides: str) -> Plan:
    words = [f"model={job.source.path}", f"calibration.corpus={job.config.calibration.corpus}", *overrides]
    config = load_config(f"methods/{method}", overrides=words).config
    shape = find_shape(str(job.source.path), revision=None, near=Path(), configs=configs_folder())
    sites = chosen_sites(config, shape)
    if isinstance(config.decompose.allocator, Uniform):
        return structure(config, shape, sites)
    evidence = read_evidence(job.run.path)
    check(evidence, with_rates(config, shape, sites), model=job.source.name, sites=sites)
    return structure(config, shape, sites, evidence=evidence)


def blobs(job: Job) -> dict[str, int]:
    headers = read_headers(job.run.path / "model")
    return {name.removesuffix(".weight"): shape[0] for name, (shape, dtype) in headers.items() if dtype == "U8"}


def test_the_number_of_recipes_is_known():
    assert len(RECIPES) == 30


@pytest.mark.parametrize("method", RECIPES)
def test_the_plan_s_bytes_are_those_in_the_file(method: str, tiny_llama: Path):
    job = finished(tiny_llama, method, *short(method))
    plan, written = plan_of(job, method, *short(method)), blobs(job)
    planned, exact = {row["linear"]: row["bytes"] for row in plan.rows()}, method not in AT_MOST
    assert (
        planned == written
        if exact
        else all(
            count <= planned[name] + ALIGNMENT_BYTES * len(plan.forms[name].sections())
            for name, count in written.items()
        )
    )
    assert not exact or plan.payload_bytes == sum(written.values())
    facts = job.run.facts("export")["manifest"]["totals"]
    assert facts["payload_bytes"] == sum(written.values())
    assert facts["weights"] == plan.weights == 18_432
    assert facts["bits_per_weight"] == pytest.approx(8 * sum(written.values()) / 18_432, abs=1e-6)
    if exact:
        assert (facts["sign_additions"], facts["multiplications"]) == tuple(vars(plan.operations).values())
    assert all(job.run.is_whole(stage) for stage in STAGES)


@pytest.mark.parametrize(("skip", "target"), [("[]", 50_000), ("['*down_proj', '*.0.*']", 72_000)])
def test_a_target_size_is_that_of_the_whole_file(skip: str, target: int, tiny_llama: Path):
    """Also where norms, stored in bfloat16, come back from the training in float32, and linears are left out."""
    overrides = short("liptt-onestep", "finetune.steps=1", "binarize.solver.iterations=1", f"load.skip={skip}")
    overrides += (f"target_size={target}",)
    job = finished(in_bfloat16(tiny_llama), "liptt-onestep", *overrides)
    plan, written = plan_of(job, "liptt-onestep", *overrides), blobs(job)
    assert {row["linear"]: row["bytes"] for row in plan.rows()} == written
    files = sum(file.stat().st_size for file in (job.run.path / "model").glob("*.safetensors"))
    assert target - 4_000 < files <= target
    assert plan.tensor_bytes < files < plan.tensor_bytes + 200 * len(read_headers(job.run.path / "model"))
    assert read_headers(job.run.path / "model")["model.norm.weight"][1] == "F32"
