"""Stage 5, evaluate: the dense and the compressed model on the same text, and the Lipschitz ledger."""

from collections.abc import Mapping
from typing import Any

from liptt_cli.evaluation.compare import compare
from liptt_cli.evaluation.evaluate import Request, evaluate, read_material
from liptt_cli.evaluation.harness import TaskSettings
from liptt_cli.kernels.dispatch import exact
from liptt_cli.models.hub import load_tokenizer
from liptt_cli.run_directory import write_json
from liptt_cli.stages.assemble import compressed_model, dense_model
from liptt_cli.stages.job import Job
from liptt_cli.stages.ledger import ledger

_LONG = frozenset({"window_nats", "scores", "document_names"})


@exact()
def run(job: Job) -> dict[str, Any]:
    """Return both evaluations, their differences, and the Lipschitz ratios, by the torch meaning of the linears."""
    wanted = job.config.evaluate
    if not (wanted.perplexity or wanted.tasks or wanted.lipschitz):
        return {}
    tokenizer = load_tokenizer(job.source)
    request, corpus = request_of(job), job.run.facts("load")["corpus"]
    dense = dense_model(job)
    material = read_material(dense, tokenizer, request)
    job.reporter.begin("evaluate", total=4)
    reference = evaluate(dense, tokenizer, request, material=material)
    job.reporter.advance("dense model measured")
    student = compressed_model(job, job.result_files())
    candidate = evaluate(student, tokenizer, request, material=material)
    job.reporter.advance("compressed model measured")
    calibrated = {part["sha256"] for part in corpus.get("parts", [corpus])}
    facts = {
        "dense": _summary(reference.to_json()),
        "compressed": _summary(candidate.to_json()),
        "differences": [difference.to_json() for difference in compare(candidate, reference)],
        "lipschitz": ledger(job, student, dense) if wanted.lipschitz else None,
        "calibrated_on": [name for name, sha256 in material.sha256.items() if sha256 in calibrated],
    }
    job.reporter.advance("gain of each block measured")
    _keep_scores(job, {"dense": reference.to_json(), "compressed": candidate.to_json()})
    job.reporter.advance("written")
    return facts


def request_of(job: Job) -> Request:
    """Return what the run is to measure."""
    wanted = job.config.evaluate
    settings = TaskSettings(limit=wanted.limit, seed=job.config.seed, near=job.near)
    return Request(
        perplexity=tuple(wanted.perplexity),
        tasks=tuple(wanted.tasks),
        window_tokens=job.window_tokens("evaluate"),
        stride=wanted.stride,
        windows=wanted.windows,
        settings=settings,
    )


def _keep_scores(job: Job, evaluations: Mapping[str, Any]) -> None:
    """Keep every window's nats and every document's score, by which two runs can be paired."""
    write_json(job.run.stage("evaluate") / "scores.json", evaluations)


def _summary(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return an evaluation without the lists that only pairing needs."""
    parts = {
        kind: {name: _short(found) for name, found in evaluation[kind].items()} for kind in ("perplexity", "tasks")
    }
    return {**evaluation, **parts}


def _short(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in _LONG}
