"""`liptt export`: a packed model written once more, as it is or for other programs, told linear by linear."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from liptt_cli.cli import screen
from liptt_cli.exports.carrying import GgufType, TableType
from liptt_cli.exports.targets import Dtype, Name, Wishes, refuse_wishes

if TYPE_CHECKING:
    from liptt_cli.packing.manifest import Manifest


def export_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Run or exported directory, or hub id of a packed model.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory to write; must not exist.")],
    to: Annotated[
        Name, typer.Option("--to", help="liptt: packed; hf: plain; compressed-tensors: 2-bit codes; gguf: llama.cpp.")
    ] = "liptt",
    gguf_type: Annotated[
        GgufType | None,
        typer.Option("--type", help="GGUF type wherever it is exact; default: the smallest that is. See below."),
    ] = None,
    tables: Annotated[
        TableType, typer.Option("--tables", help="GGUF type of embeddings, head and linears left alone.")
    ] = "F16",
    dtype: Annotated[Dtype | None, typer.Option("--dtype", help="Of --to hf; default: the run's own.")] = None,
    allow_densify: Annotated[
        bool, typer.Option("--allow-densify", help="Write as plain numbers what the target cannot hold exactly.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --output.")] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of MODEL.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Write a packed model elsewhere, read every tensor back, compare, and tell what became of each linear.

    `--to liptt` copies it byte for byte. `--to hf` writes every compressed linear as the matrix that it stands for: any
    program loads it, and it is as large as the dense model. `compressed-tensors` and `gguf` hold signs under scales of
    rows or of groups of columns exactly; what they cannot hold is refused unless `--allow-densify`, and written as
    plain numbers then: in `--type` if that is F16, BF16, F32 or Q8_0, else in F16.

    Example: liptt export runs/signs --to gguf --output signs-gguf
    """
    from liptt_cli.models import hub
    from liptt_cli.packing.manifest import read_manifest
    from liptt_cli.stages.elsewhere import Elsewhere, export_elsewhere
    from liptt_cli.stages.export import export_copy

    wishes = Wishes(gguf_type, tables, dtype, allow_densify)
    refuse_wishes(to, wishes)
    packed = hub.locate(model).path
    manifest = read_manifest(packed)
    if to == "liptt":
        export_copy(packed, output, replaces=force)
        facts = _copied(manifest)
    else:
        job = Elsewhere(packed, to, wishes, trust_remote_code=trust_remote_code)
        facts = export_elsewhere(job, output, replaces=force).to_json()
    if as_json:
        screen.emit_json({"output": str(output), **facts})
        return
    screen.emit(_table(facts))
    for line in _sentences(output, facts):
        screen.emit(line)
    if to == "liptt":
        screen.say("load it: import liptt_cli, then AutoModelForCausalLM.from_pretrained")


def _copied(manifest: "Manifest") -> dict[str, Any]:
    """Return what is told of a copy, in the words of the other targets."""
    same = {"kind": "exact", "type": "liptt", "reason": "", "largest_difference": 0.0}
    linears = {
        name: {**same, "packed_bytes": linear.bytes, "written_bytes": linear.bytes}
        for name, linear in manifest.linears.items()
    }
    return {
        "to": "liptt",
        "file_bytes": manifest.totals.file_bytes,
        "packed_file_bytes": manifest.totals.file_bytes,
        "dense_bf16_bytes": manifest.totals.dense_bf16_bytes,
        "kinds": {"exact (liptt)": len(linears)},
        "linears": linears,
        "logits": None,
        "notes": [],
    }


def _table(facts: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("linear", overflow="fold")
    for head in ("written", "type", "before", "after", "off by"):
        table.add_column(head, no_wrap=True)
    for name, row in facts["linears"].items():
        sizes = (f"{row['packed_bytes']:,}", f"{row['written_bytes']:,}")
        table.add_row(name, row["kind"], row["type"], *sizes, f"{row['largest_difference']:.2g}")
    return table


def _sentences(output: Path, facts: dict[str, Any]) -> list[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts["kinds"].items())
    held = "file verified" if facts["to"] == "liptt" else "tensor read back"
    told = [
        f"{output}: {kinds}. {facts['file_bytes']:,} bytes of weights; packed: {facts['packed_file_bytes']:,}, "
        f"dense in bfloat16: {facts['dense_bf16_bytes']:,}. Every {held}."
    ]
    reasons: dict[str, list[str]] = {}
    for name, row in facts["linears"].items():
        reasons.setdefault(row["reason"], []).append(name)
    told += [f"{len(names)} linears, such as {names[0]}: {why}." for why, names in reasons.items() if why]
    logits = facts["logits"]
    if logits is not None:
        told.append(
            f"Logits differ from the packed model's by {logits['largest_difference']:.2g} "
            f"(allowed: {logits['allowed_difference']:.2g})."
        )
    return told + [f"Note: {note}." for note in facts["notes"]]
