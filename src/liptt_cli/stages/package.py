"""The export stage of a run: the packed model into `model/`, and each other target into `model-<target>/`."""

import hashlib
import json
from typing import Any

from liptt_cli.exports.preflight import wishes_of
from liptt_cli.exports.targets import TARGETS
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.stages.elsewhere import Elsewhere, export_elsewhere
from liptt_cli.stages.export import Export, export_packed
from liptt_cli.stages.job import Job


def run(job: Job) -> dict[str, Any]:
    """Export, read back, compare, and return the manifest."""
    wanted = job.config.export
    job.reporter.begin("export", total=len(wanted.to) + ("liptt" not in wanted.to))
    packed = job.run.path / TARGETS["liptt"].folder
    export = Export(
        source=job.source,
        overlay=Overlay.read(job.result_files()),
        origin=_origin(job),
        shard_bytes=wanted.shard_bytes,
        trust_remote_code=job.config.load.trust_remote_code,
    )
    manifest = export_packed(export, packed, replaces=True).to_json()
    job.reporter.advance(f"{manifest['totals']['file_bytes']:,} bytes, read back with equal logits")
    facts: dict[str, Any] = {"manifest": {key: manifest[key] for key in ("files", "totals", "fingerprint")}}
    facts["elsewhere"] = {}
    for to in dict.fromkeys(wanted.to):
        if to == "liptt":
            continue
        elsewhere = Elsewhere(
            packed, to, wishes_of(job.config, to), wanted.shard_bytes, job.config.load.trust_remote_code
        )
        record = export_elsewhere(elsewhere, job.run.path / TARGETS[to].folder, replaces=True)
        facts["elsewhere"][to] = record.to_json()
        job.reporter.advance(f"{to}: {record.file_bytes:,} bytes, every tensor read back")
    return facts


def _origin(job: Job) -> Origin:
    recipe = json.dumps(dict(job.run.resolved), sort_keys=True).encode()
    return Origin(
        model=job.source.name,
        revision=job.source.revision,
        method=job.config.method,
        recipe_sha256=hashlib.sha256(recipe).hexdigest(),
        dtype=str(job.dtype).removeprefix("torch."),
    )
