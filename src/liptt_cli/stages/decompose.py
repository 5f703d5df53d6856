"""Stage 2, decompose: give each linear its factorisation, modes, ranks and bits, under the dial.

The same torch-free allocator as `liptt plan`. A uniform split reads no weights; a knapsack wants evidence
(`evidence.py`), which is measured first. A binary chain is fitted jointly with its codes, so the fit itself is the
binarize stage's.
"""

from dataclasses import replace
from typing import Any

from liptt_cli.menu.decompose import Knapsack
from liptt_cli.planning.architectures import model_shape
from liptt_cli.planning.evidence import check
from liptt_cli.planning.plan import Plan, structure, with_rates
from liptt_cli.planning.sites import ModelShape, SiteShape, in_order
from liptt_cli.stages.evidence import measure_evidence
from liptt_cli.stages.gradients import measure_gradients
from liptt_cli.stages.heal import heal
from liptt_cli.stages.job import Job


def run(job: Job) -> dict[str, Any]:
    """Return the form of each linear, and the price."""
    measure_gradients(job)
    model, evidence = _shape(job), None
    if isinstance(job.config.decompose.allocator, Knapsack):
        structure(job.config, model, model.sites)  # a dial out of reach is refused before anything is measured
        config = with_rates(job.config, model, model.sites)
        evidence = measure_evidence(replace(job, config=config))
        check(evidence, config, model=job.source.name, sites=model.sites)
    job.reporter.begin("decompose", total=1)
    plan = structure(job.config, model, model.sites, evidence=evidence)
    job.reporter.advance(f"{plan.bits_per_weight:.4f} bits per weight, {plan.payload_bytes:,} bytes")
    healed = heal(job, plan.forms)
    forms = {name: form.to_json() for name, form in plan.forms.items()}
    return {"forms": forms, **_price(plan), "predicted_costs": _costs(plan), "healed": healed}


def _shape(job: Job) -> ModelShape:
    """Return the shape by the model's own names, which may differ from those on disk by a prefix.

    Its sites are the selected ones; the others count as kept.
    """
    disk = model_shape(job.source.path)
    sites = in_order([SiteShape(site.name, site.block, site.shape) for site in job.structure.sites])
    kept_bytes = disk.dense_bytes - disk.site_dtype_bytes * sum(site.weights for site in sites)
    kept_tensors = len(disk.sites) + disk.other_tensors - len(sites)
    return replace(disk, sites=sites, other_bytes=kept_bytes, other_tensors=kept_tensors, tables=job.tables)


def _price(plan: Plan) -> dict[str, Any]:
    operations = plan.operations
    return {
        "weights": plan.weights,
        "payload_bytes": plan.payload_bytes,
        "bits_per_weight": plan.bits_per_weight,
        "sign_additions": operations.sign_additions,
        "multiplications": operations.multiplications,
        "dense_operations": plan.weights,
        "table_bytes": plan.table_bytes,
    }


def _costs(plan: Plan) -> dict[str, float] | None:
    """Return what the evidence predicts of these forms and of the uniform split, None without evidence."""
    costs = plan.predicted_costs
    return None if costs is None else {"chosen": costs[0], "uniform": costs[1]}
