"""Stage 2, decompose: give each linear its factorisation, modes, ranks and bits, under the dial.

The same torch-free allocator as `liptt plan`; no weights are read. A binary chain is fitted jointly with
its codes, so the fit itself is the binarize stage's.
"""

from dataclasses import replace
from typing import Any

from liptt_cli.planning.architectures import model_shape
from liptt_cli.planning.plan import Plan, structure
from liptt_cli.planning.sites import ModelShape, SiteShape, in_order
from liptt_cli.stages.job import Job


def run(job: Job) -> dict[str, Any]:
    """Return the form of each linear, and the price."""
    job.reporter.begin("decompose", total=1)
    model = _shape(job)
    plan = structure(job.config, model, model.sites)
    job.reporter.advance(f"{plan.bits_per_weight:.4f} bits per weight, {plan.payload_bytes:,} bytes")
    return {"forms": {name: form.to_json() for name, form in plan.forms.items()}, **_price(plan)}


def _shape(job: Job) -> ModelShape:
    """Return the shape by the model's own names, which may differ from those on disk by a prefix.

    Its sites are the selected ones; the others count as kept.
    """
    disk = model_shape(job.source.path)
    sites = in_order([SiteShape(site.name, site.block, site.shape) for site in job.structure.sites])
    kept_bytes = disk.dense_bytes - disk.site_dtype_bytes * sum(site.weights for site in sites)
    kept_tensors = len(disk.sites) + disk.other_tensors - len(sites)
    return replace(disk, sites=sites, other_bytes=kept_bytes, other_tensors=kept_tensors)


def _price(plan: Plan) -> dict[str, Any]:
    operations = plan.operations
    return {
        "weights": plan.weights,
        "payload_bytes": plan.payload_bytes,
        "bits_per_weight": plan.bits_per_weight,
        "sign_additions": operations.sign_additions,
        "multiplications": operations.multiplications,
        "dense_operations": plan.weights,
    }
