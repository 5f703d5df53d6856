"""Stage 6, export: write the packed model, read it back through transformers, and compare it with the model in memory.

What is written appears only after the logits agreed, bit for bit in float32. The core knows no run directory, so that
`liptt export` and tests use it as the run does. The formats of other programs are in elsewhere.py.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from liptt_cli.errors import IntegrityError
from liptt_cli.models.hub import Source, load_model
from liptt_cli.models.shards import Shards
from liptt_cli.packing.artifact import verify_files, write_packed
from liptt_cli.packing.manifest import Manifest
from liptt_cli.packing.overlay import Overlay
from liptt_cli.packing.section import Origin
from liptt_cli.packing.whole import whole_directory
from liptt_cli.stages.assemble import lay_over
from liptt_cli.stages.fingerprint import fingerprint, fingerprint_tokens, logits_of

Logits = Callable[[Int[Tensor, "windows tokens"]], Float[Tensor, "windows tokens vocabulary"]]
SHARD_BYTES = 5 * 10**9


@dataclass(frozen=True)
class Export:
    """What is to be exported: a source model, what the stages changed in it, and where it comes from.

    `reference` gives the float32 logits of the model in memory; without it, the source is loaded and overlaid.
    """

    source: Source
    overlay: Overlay
    origin: Origin
    shard_bytes: int = SHARD_BYTES
    trust_remote_code: bool = False
    reference: Logits | None = None


def export_packed(job: Export, directory: Path, *, replaces: bool = False) -> Manifest:
    """Write a packed model and return its manifest, which holds the fingerprint of the logits that were read back.

    Raises:
        ConfigError: if the directory exists and `replaces` is false.
        ResourceError: if the disk is full; nothing is left behind.
        IntegrityError: if the model that was read back gives other logits than the one in memory.
    """
    with whole_directory(directory, replace=replaces) as partial:
        files = Shards(job.source.path).files()
        manifest = write_packed(
            partial, source=files, overlay=job.overlay, origin=job.origin, shard_bytes=job.shard_bytes
        )
        model = _loaded(partial, job.trust_remote_code)
        tokens = fingerprint_tokens(_vocabulary(model))
        logits = logits_of(model, tokens)
        _require_identical(logits, _reference(job)(tokens))
        manifest = replace(manifest, fingerprint=fingerprint(tokens, logits))
        manifest.write(partial)
    return manifest


def export_copy(packed: Path, directory: Path, *, replaces: bool = False) -> Manifest:
    """Copy a packed model file by file, and verify the copy.

    Raises:
        IntegrityError: if the packed model or the copy is not what its manifest says.
    """
    manifest = verify_files(packed)
    with whole_directory(directory, replace=replaces) as partial:
        for name in (*manifest.files, "liptt.json"):
            shutil.copyfile(packed / name, partial / name)
        return verify_files(partial)


def assembled(job: Export) -> nn.Module:
    """Return the source model with the overlay put into it, in float32: the packed model, made without its files."""
    model = load_model(job.source, dtype=torch.float32, trust_remote_code=job.trust_remote_code)
    lay_over(model, job.overlay)
    return model


def _reference(job: Export) -> Logits:
    if job.reference is not None:
        return job.reference
    model = assembled(job)
    return lambda tokens: logits_of(model, tokens)


def _loaded(directory: Path, trust_remote_code: bool) -> Any:
    source = Source(directory, directory.name, None)
    return load_model(source, dtype=torch.float32, trust_remote_code=trust_remote_code)


def _vocabulary(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def _require_identical(found: Tensor, expected: Tensor) -> None:
    if torch.equal(found, expected.float().cpu()):
        return
    difference = (found - expected.float().cpu()).abs().max().item()
    raise IntegrityError(
        f"the packed model that was read back gives other logits than the one in memory (off by {difference:.3g}); "
        "nothing was exported. This is a fault of liptt or of the installed transformers: please report it"
    )
