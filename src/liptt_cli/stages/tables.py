"""Embedding and head rounded, if asked: a part of the binarize stage, so that the fine-tune learns around it.

Each is rounded to the nearest levels as it stands in the source; nothing in them trains. The walk through the blocks
sees the dense embedding still.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.algebra.codecs.base import WeightCodec
from liptt_cli.algebra.metric import Metric
from liptt_cli.catalogue import codec_of
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.forms.base import bits_per_weight, blob_bytes
from liptt_cli.models.shards import Shards
from liptt_cli.packing.block_file import BlockResult, write_block
from liptt_cli.planning.tables import table_forms
from liptt_cli.run_directory import write_file
from liptt_cli.stages.job import OUTSIDE, Job

_ENTRIES_AT_ONCE = 2**22


def round_tables(job: Job) -> dict[str, Any]:
    """Write the rounded tables into the binarize stage's folder, and return bits, bytes and error of each."""
    forms, options = table_forms(job.config.tables, job.tables), job.config.tables.codec
    if options is None:
        return {}
    codec, shards = codec_of(options), Shards(job.source.path)
    if not isinstance(codec, WeightCodec):
        raise TypeError(f"{type(codec).__name__} encodes no weight itself")
    values: dict[str, Grid] = {}
    facts: dict[str, Any] = {}
    for name, form in forms.items():
        table = shards.read([f"{name}.weight"], dtype=torch.float32)[f"{name}.weight"]
        values[name], error = _rounded(table, codec)
        facts[name] = {"bits_per_weight": bits_per_weight(form), "bytes": blob_bytes(form), "error": error}
        job.reporter.advance(f"{name}: {job.config.tables.bits} bits, error {error:.2e}")
    write_file(job.run.stage("binarize") / OUTSIDE, partial(write_block, result=BlockResult(tables=values)))
    return facts


def _rounded(table: Float[Tensor, "rows columns"], codec: WeightCodec) -> tuple[Grid, float]:
    """Return a table's value and its relative squared error, some rows at a time."""
    parts, missed = [], 0.0
    for rows in table.split(max(1, _ENTRIES_AT_ONCE // table.shape[1])):
        part = codec.fit(rows, metric=Metric()).round(rows)
        if not isinstance(part, Grid) or part.scale is None:
            raise TypeError(f"{type(part).__name__} is no grid of rows")
        parts.append(part.settled())
        missed += float((rows - parts[-1].dense()).double().square().sum())
    scales = [part.scale for part in parts if part.scale is not None]
    scale = Envelope(torch.cat([each.rows for each in scales], dim=2), None, scales[0].group_columns)
    whole = Grid(torch.cat([part.codes for part in parts], dim=1), scale, None, parts[0].alphabet)
    return whole, missed / float(table.double().square().sum())
