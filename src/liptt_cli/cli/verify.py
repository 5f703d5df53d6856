"""`liptt verify`: that a packed model is what was exported, byte for byte and logit for logit."""

from pathlib import Path
from typing import Annotated

import typer

from liptt_cli.cli import screen
from liptt_cli.errors import IntegrityError


def verify_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Run or exported directory, or hub id of a packed model.")
    ],
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of MODEL.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check hashes, bytes against the manifest, the format version, and the logits on fixed tokens.

    Exit status 5 if anything differs, with the file's name.

    Example: liptt verify runs/tiny
    """
    from liptt_cli.models import hub
    from liptt_cli.packing.artifact import verify_files
    from liptt_cli.stages.fingerprint import verify_logits

    source = hub.locate(model, weights=not Path(model).is_dir())  # a broken file of a directory is named below
    manifest = verify_files(source.path)
    if manifest.fingerprint is None:
        raise IntegrityError(f"{source.path}: no fingerprint of the logits; its export did not finish")
    difference = verify_logits(source, manifest.fingerprint, trust_remote_code=trust_remote_code)
    if as_json:
        screen.emit_json(
            {
                "path": str(source.path),
                "format_version": manifest.format_version,
                "files": len(manifest.files),
                "linears": len(manifest.linears),
                "payload_bytes": manifest.totals.payload_bytes,
                "logits_identical": difference == 0,
                "logits_difference": difference,
            }
        )
        return
    logits = "identical" if difference == 0 else f"within rounding of another machine ({difference:.2g})"
    screen.emit(
        f"{source.path}: sound. {len(manifest.files)} files and {len(manifest.linears)} linears "
        f"({manifest.totals.payload_bytes:,} payload bytes) are as written, format version {manifest.format_version}; "
        f"logits {logits}."
    )
