"""The Lipschitz ledger of a run: for each block its gain against the dense one's, a bound, and what becomes of errors.

Both models run on the first calibration windows; `report.json` keeps the rows under `lipschitz`, before the fine-tune
and after all stages, and `liptt inspect` reads them. A row has the keys of `metrics.lipschitz.block_ratios` and of
`metrics.amplification.block_errors`; those after all stages also have

    spectral_largest    largest quotient sigma_1(compressed) / sigma_1(dense) among the block's compressed linears
    spectral_product    product of these quotients; both None for a block without any
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from liptt_cli.forms.around import AroundForm
from liptt_cli.layers.hidden import heard_blocks, recorded_hidden, without_cache
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.surgery import get_module
from liptt_cli.metrics.amplification import Pass, block_errors, spectral_norm
from liptt_cli.metrics.lipschitz import block_ratios
from liptt_cli.stages.assemble import compressed_model
from liptt_cli.stages.job import Job

Row = dict[str, Any]
_GAIN_WINDOWS, _ERROR_WINDOWS = 8, 4


def ledger(job: Job, student: nn.Module, dense: nn.Module) -> dict[str, list[Row]]:
    """Return the rows before the fine-tune and after all stages; the same gains twice if there was no fine-tune."""
    after = _rows(job, student, dense)
    before = after
    if job.block_files("finetune"):
        before = _rows(job, compressed_model(job, job.block_files("binarize")), dense)
    bounds = _bounds(job, student, dense)
    return {"before": before, "after": [row | bounds[row["block"]] for row in after]}


def _rows(job: Job, student: nn.Module, dense: nn.Module) -> list[Row]:
    ids = job.windows[:_GAIN_WINDOWS]
    ratios = block_ratios(_hidden(job, student, ids), _hidden(job, dense, ids))
    errors = block_errors(_passes(job, student, dense))
    return [{**ratio, **error} for ratio, error in zip(ratios, errors, strict=True)]


@torch.no_grad()
def _hidden(job: Job, model: nn.Module, ids: Tensor) -> Iterator[Mapping[int, Tensor]]:
    for row in ids:
        with recorded_hidden(model, job.structure.block_path) as hidden:
            model(input_ids=row.unsqueeze(0), **without_cache(model))
            yield dict(hidden)


@torch.no_grad()
def _passes(job: Job, student: nn.Module, dense: nn.Module) -> Iterator[tuple[Pass, Pass]]:
    path = job.structure.block_path
    with heard_blocks(student, path) as ours, heard_blocks(dense, path) as theirs:
        for row in job.windows[:_ERROR_WINDOWS]:
            for model in (student, dense):
                model(input_ids=row.unsqueeze(0), **without_cache(model))
            yield Pass(ours.hidden, ours.run), Pass(theirs.hidden, theirs.run)


def _bounds(job: Job, student: nn.Module, dense: nn.Module) -> list[Row]:
    quotients: list[list[float]] = [[] for _ in range(job.structure.blocks)]
    for site in job.structure.sites:
        packed, weight = get_module(student, site.name), get_module(dense, site.name).weight
        if not isinstance(packed, PackedLinear) or isinstance(packed.form, AroundForm):
            continue
        if isinstance(weight, Tensor):
            own = spectral_norm(packed.value().dense(torch.float32))
            quotients[site.block].append(own / max(spectral_norm(weight), torch.finfo(torch.float32).tiny))
    return [
        {"spectral_largest": max(found, default=None), "spectral_product": prod(found) if found else None}
        for found in quotients
    ]
