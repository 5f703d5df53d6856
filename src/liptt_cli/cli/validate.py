"""`liptt validate FILE...`: every fault of every file, before anything is run."""

from dataclasses import asdict, replace
from typing import Annotated

import typer

from liptt_cli.cli import screen
from liptt_cli.config import load_config
from liptt_cli.errors import ConfigError, Fault
from liptt_cli.exports.preflight import refuse_kind


def validate_command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Configurations: paths, shipped names, or - for stdin.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Check with this key set; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check configurations: all faults at once, with file:line:column and the nearest known key."""
    faults = {file: _faults(file, overrides or []) for file in files}
    if as_json:
        listed = [
            {"file": file, "ok": not found, "faults": [asdict(fault) for fault in found]}
            for file, found in faults.items()
        ]
        screen.emit_json({"ok": not any(faults.values()), "files": listed})
    for file, found in faults.items():
        for fault in found:
            screen.warn(str(fault))
        if not as_json and not found:
            screen.emit(f"{file}: ok")
    if any(faults.values()):
        raise typer.Exit(ConfigError.exit_status)


def _faults(file: str, overrides: list[str]) -> list[Fault]:
    try:
        loaded = load_config(file, overrides=overrides)
    except ConfigError as error:
        return list(error.faults)
    try:
        refuse_kind(loaded.config)
    except ConfigError as error:
        return [replace(fault, file=file) for fault in error.faults]
    return []
