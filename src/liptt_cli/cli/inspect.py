"""`liptt inspect`: what each linear of a packed model became, and where the bits went."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from liptt_cli.cli import screen

if TYPE_CHECKING:
    from liptt_cli.forms.base import Form
    from liptt_cli.packing.manifest import Manifest

_REPORT = "report.json"


def inspect_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Run or exported directory, or hub id of a packed model.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show each linear's form, bits and bytes, the whole file beside the dense one, and what the run's report knows.

    Errors and the Lipschitz ledger are those of the run that made the model, so they show for run directories only.

    Example: liptt inspect runs/tiny
    """
    from liptt_cli.models import hub
    from liptt_cli.packing.account import account, describe
    from liptt_cli.packing.manifest import read_manifest
    from liptt_cli.packing.overlay import Overlay

    path = hub.locate(model).path
    overlay, manifest, report = Overlay.of_packed(path), read_manifest(path), _report(path)
    facts = manifest.to_json()

    def told(kind: str, forms: Mapping[str, "Form"]) -> dict[str, Any]:
        errors = report.get(kind, {})
        return {
            name: {**facts[kind][name], "form": describe(form), "error": errors.get(name, {}).get("error")}
            for name, form in forms.items()
        }

    document = {
        "path": str(path),
        **{key: facts[key] for key in ("format_version", "liptt_version", "origin", "totals")},
        "bytes": account(path, overlay),
        "linears": told("linears", overlay.forms),
        "tables": told("tables", overlay.tables),
        "lipschitz": report.get("lipschitz"),
    }
    if as_json:
        screen.emit_json(document)
        return
    for shown in (_linears(document), _bytes(document), *_ratios(document)):
        screen.emit(shown)
    screen.emit(_summary(manifest))


def _report(path: Path) -> dict[str, Any]:
    """Return the report of the run that the model lies in, empty if there is none."""
    file = path.parent / _REPORT
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def _linears(document: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("linear", "bytes", "bits", "error"):
        table.add_column(title, no_wrap=True)
    table.add_column("form", overflow="fold")
    for name, found in {**document["linears"], **document["tables"]}.items():
        error = "" if found["error"] is None else f"{found['error']:.4f}"
        table.add_row(name, f"{found['bytes']:,}", f"{found['bits_per_weight']:.4f}", error, found["form"])
    return table


def _bytes(document: dict[str, Any]) -> Table:
    table = Table("where the bytes went", "bytes", "share", box=box.SIMPLE_HEAD)
    total = sum(document["bytes"].values())
    for kind, count in document["bytes"].items():
        table.add_row(kind, f"{count:,}", f"{count / total:.1%}")
    return table


def _ratios(document: dict[str, Any]) -> list[Table]:
    lipschitz = document["lipschitz"]
    if not lipschitz:
        return []
    return [_gains(lipschitz), _errors(lipschitz["after"])]


def _gains(lipschitz: dict[str, Any]) -> Table:
    title = "gain of a block, retention estimator; the bound is sigma_1 of its linears over the dense ones', no more"
    heads = ("block", "dense", "student/dense before the fine-tune", "after", "largest bound", "product")
    table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for before, after in zip(lipschitz["before"], lipschitz["after"], strict=True):
        row = (f"{after['teacher_gain']:.4g}", f"{before['ratio']:.3f}", f"{after['ratio']:.3f}")
        bounds = [_measured(after, key) for key in ("spectral_largest", "spectral_product")]
        table.add_row(str(after["block"]), *row, *bounds)
    return table


def _errors(rows: list[dict[str, Any]]) -> Table:
    title = "errors, relative to the dense states at that place; amplified is what came in, added is the block's own"
    heads = ("block", "error in", "amplification", "by the dense block", "own error", "error out")
    table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        keys = ("error_in", "amplification", "teacher_amplification", "own_error", "error_out")
        table.add_row(str(row["block"]), *(_measured(row, key) for key in keys))
    return table


def _measured(row: dict[str, Any], key: str) -> str:
    """Return a figure; the first runs lack some, and nothing is amplified where no error comes in."""
    if key not in row:
        return "not measured"
    return "-" if row[key] is None else f"{row[key]:.3f}"


def _summary(manifest: "Manifest") -> str:
    totals = manifest.totals
    tables = "".join(
        f"{name}: {table.bits_per_weight:.4f} bits an entry ({table.bytes:,} bytes), beside these.\n"
        for name, table in manifest.tables.items()
    )
    return (
        f"{manifest.origin.method} on {manifest.origin.model}: {totals.bits_per_weight:.4f} honest bits per weight "
        f"({totals.payload_bytes:,} bytes for {totals.weights:,} weights).\n"
        f"{tables}"
        f"Weight files: {totals.file_bytes:,} bytes; dense: {totals.dense_file_bytes:,}, in bfloat16 "
        f"{totals.dense_bf16_bytes:,} ({totals.file_bytes / totals.dense_bf16_bytes - 1:+.1%}).\n"
        f"One token, compressed linears: {totals.sign_additions:,} sign additions and {totals.multiplications:,} "
        f"multiplications; dense: {totals.weights:,} multiply-adds."
    )
