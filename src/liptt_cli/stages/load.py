"""Stage 1, load: find the model, describe its linears, and cut the calibration text into windows."""

import logging
from dataclasses import asdict
from typing import Any, Literal

import torch
from jaxtyping import Int
from safetensors.torch import save_file
from torch import Tensor

from liptt_cli.calibration.corpora import read_corpus, sha256_of
from liptt_cli.calibration.mixes import mixed, shared_out
from liptt_cli.calibration.windows import Sampling, corpus_windows, sampled_from
from liptt_cli.errors import ConfigError, OtherRunError
from liptt_cli.evaluation.evaluate import preflight
from liptt_cli.menu.tuning import Lipschitz
from liptt_cli.models.blocks import select
from liptt_cli.models.hub import load_model, load_tokenizer
from liptt_cli.models.streamed import StreamedModel
from liptt_cli.run_directory import differences, write_file
from liptt_cli.run_directory import sha256_of as file_sha256
from liptt_cli.stages.evaluate import request_of
from liptt_cli.stages.job import Job
from liptt_cli.stages.turns import refuse_unfit_roles

LOGGER = logging.getLogger("liptt_cli")


def run(job: Job) -> dict[str, Any]:
    """Write the windows and return what is known of model and text."""
    job.reporter.begin("load", total=3 + _samplings(job))
    model = StreamedModel(job.source, dtype=job.dtype, trust_remote_code=job.config.load.trust_remote_code)
    structure = select(model.structure, job.config.load.include, job.config.load.skip)
    refuse_unfit_roles(structure, order=job.config.binarize.order, before=job.config.binarize.rest.before)
    job.reporter.advance(f"{len(structure.sites)} linears in {structure.blocks} blocks; {structure.coverage.told()}")
    if structure.coverage.is_low:
        LOGGER.warning("only %s", structure.coverage.told())
    tables = () if job.config.tables.bits is None else model.tables
    _refuse_long_windows(job)
    _refuse_coarse_numbers(job)
    preflight(request_of(job))
    ids, corpus = _windows(job)
    path = job.run.stage("load") / "windows.safetensors"
    write_file(path, lambda partial: save_file({"ids": ids.to(torch.int32)}, partial))
    job.reporter.advance(f"{len(ids)} windows of {ids.shape[1]} tokens from {corpus['name']}")
    _refuse_broken_weights(model)
    source = _source(job)
    job.reporter.advance("all weights are finite, and hashed")
    return {
        "source": source,
        "corpus": corpus,
        "structure": structure.to_json(),
        "tables": [asdict(table) for table in tables],
        "coverage": structure.coverage.to_json(),
        "dtype": str(job.dtype).removeprefix("torch."),
    }


def _refuse_coarse_numbers(job: Job) -> None:
    """Refuse 16-bit numbers where a training compares outputs that differ by a hundredth."""
    binarize, finetune = job.config.binarize, job.config.finetune
    tunings = {"binarize.rest": binarize.rest, "binarize.codes": binarize.codes, "finetune": finetune}
    fine = [
        name
        for name, tuning in tunings.items()
        for objective in tuning.objectives
        if tuning.trains and isinstance(objective, Lipschitz) and objective.estimator == "directional"
    ]
    if fine and torch.finfo(job.dtype).bits < 32:
        raise ConfigError(
            f"{fine[0]}.objectives: the directional estimator of lipschitz takes differences that {job.dtype} cannot "
            "hold; set load.dtype: float32, or estimator: error_direction or retention"
        )


def refuse_other_model(job: Job) -> None:
    """Refuse to go on with other weights than this stage read when the run began.

    Raises:
        OtherRunError: naming what differs.
    """
    differing = differences(job.run.facts("load")["source"], _source(job))
    if differing:
        raise OtherRunError(
            f"{job.source.path} is not the model that {job.run.path} began with; these differ (then, now):",
            *differing,
            "Bring that model back, or start a new run with another --output",
        )


def _source(job: Job) -> dict[str, Any]:
    hashes = {path.name: file_sha256(path) for path in sorted(job.source.path.glob("*.safetensors"))}
    return {"name": job.source.name, "revision": job.source.revision, "sha256": hashes}


def _refuse_long_windows(job: Job) -> None:
    """Refuse windows that the model cannot read, of calibration now and of evaluation, which comes last."""
    longest = job.positions
    stages: tuple[Literal["calibration", "evaluate"], ...] = ("calibration", "evaluate")
    for stage in stages if job.config.evaluate.perplexity else stages[:1]:
        tokens = job.window_tokens(stage)
        if longest is not None and tokens > longest:
            raise ConfigError(
                f"{stage}.window_tokens: {tokens} is more than the {longest} positions of this model; "
                f"set it to {longest} or less"
            )


def _refuse_broken_weights(model: StreamedModel) -> None:
    """Read every tensor once, so that one that is missing, misshapen or NaN is refused now and not hours later."""
    for number in range(model.structure.blocks):
        with model.block(number):
            pass
    for name in model.outside_names():
        model.shards.read([name], dtype=model.dtype)


def _windows(job: Job) -> tuple[Int[Tensor, "windows tokens"], dict[str, Any]]:
    """Return the windows, mixed if there are several corpora, and what they are."""
    wanted = job.config.calibration
    parts, facts = [], []
    for name, count in shared_out(wanted.windows, wanted.shares).items():
        ids, corpus = _sampled(job, count) if name == "self" else _read(job, name, count)
        parts.append(ids)
        facts.append({**corpus, "windows": count, "tokens": ids.numel()})
    ids = mixed(parts, generator=job.generator("calibration mix"))
    if len(facts) == 1:
        return ids, {key: value for key, value in facts[0].items() if key != "windows"}
    told = " + ".join(f"{part['windows']} of {part['name']}" for part in facts)
    digest = sha256_of([f"{part['windows']} {part['sha256']}" for part in facts])
    return ids, {"name": told, "sha256": digest, "tokens": ids.numel(), "parts": facts}


def _sampled(job: Job, windows: int) -> tuple[Int[Tensor, "windows tokens"], dict[str, Any]]:
    model = load_model(job.source, dtype=job.dtype, trust_remote_code=job.config.load.trust_remote_code)
    sampling = Sampling(windows, job.window_tokens("calibration"), job.config.seed)

    def tell(done: int, windows: int) -> None:
        job.reporter.advance(f"{done} of {windows} windows sampled from the model")

    ids = sampled_from(model, load_tokenizer(job.source), sampling, tell)
    return ids, {"name": "self", "sha256": sha256_of([" ".join(map(str, row)) for row in ids.tolist()])}


def _samplings(job: Job) -> int:
    """Return in how many batches the model is sampled."""
    wanted = job.config.calibration
    return -(-shared_out(wanted.windows, wanted.shares).get("self", 0) // Sampling.batch_windows)


def _read(job: Job, name: str, windows: int) -> tuple[Int[Tensor, "windows tokens"], dict[str, Any]]:
    corpus = read_corpus(name, side="calibration", near=job.near)
    tokens = job.window_tokens("calibration")
    ids = corpus_windows(
        corpus, load_tokenizer(job.source), window_tokens=tokens, windows=windows, seed=job.config.seed
    )
    return ids, {"name": corpus.name, "sha256": corpus.sha256}
