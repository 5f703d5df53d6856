"""`liptt export`: a packed model written once more, as it is or as a plain model that needs no plug-in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich import box
from rich.table import Table

from liptt_cli.cli import screen

if TYPE_CHECKING:
    from liptt_cli.packing.manifest import Manifest

Target: TypeAlias = Literal["liptt", "hf"]
_BECAME = {"liptt": "exact", "hf": "densified"}


def export_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Run or exported directory, or hub id of a packed model.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory to write; must not exist.")],
    to: Annotated[Target, typer.Option("--to", help="liptt: packed; hf: plain, for any program.")] = "liptt",
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --output.")] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of MODEL.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write a packed model elsewhere, read it back and compare.

    `--to liptt` copies it byte for byte. `--to hf` writes every compressed linear as the matrix that it stands for: any
    program loads it, and it is as large as the dense model.

    Example: liptt export runs/tiny --to hf --output demo-plain
    """
    from liptt_cli.models import hub
    from liptt_cli.packing.manifest import read_manifest
    from liptt_cli.stages.export import export_copy, export_dense

    packed = hub.locate(model).path
    manifest = read_manifest(packed)
    facts: dict[str, Any] = {"output": str(output), "to": to}
    if to == "liptt":
        export_copy(packed, output, replaces=force)
        facts["file_bytes"] = manifest.totals.file_bytes
    else:
        facts |= export_dense(packed, output, replaces=force, trust_remote_code=trust_remote_code)
    if as_json:
        screen.emit_json({**facts, "linears": dict.fromkeys(manifest.linears, _BECAME[to])})
        return
    screen.emit(_table(manifest, _BECAME[to]))
    screen.emit(f"{output}: {facts['file_bytes']:,} bytes of weights, {_compared(facts)}")
    if to == "liptt":
        screen.say("load it: import liptt_cli, then AutoModelForCausalLM.from_pretrained")


def _compared(facts: dict[str, Any]) -> str:
    if facts["to"] == "liptt":
        return "every file verified"
    return (
        f"{facts['dtype']}; logits differ from the packed model's by {facts['largest_difference']:.2g} "
        f"(allowed: {facts['allowed_difference']:.2g})"
    )


def _table(manifest: "Manifest", became: str) -> Table:
    table = Table("linear", "packed bits per weight", "written", box=box.SIMPLE_HEAD)
    for name, linear in manifest.linears.items():
        table.add_row(name, f"{linear.bits_per_weight:.4f}", became)
    return table
