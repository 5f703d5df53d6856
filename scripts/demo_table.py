"""Print finished runs side by side: python scripts/demo_table.py RUN RUN...

Each row is a run's own report.json; the dense model's row comes from the first. All runs must have been
measured on the same text, which their reports say by its sha256.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Report = dict[str, Any]


def main() -> None:
    """Read the reports and print the table."""
    if len(sys.argv) < 2:
        sys.exit("usage: python scripts/demo_table.py RUN RUN...")
    reports = [json.loads((Path(run) / "report.json").read_text(encoding="utf8")) for run in sys.argv[1:]]
    texts = {json.dumps(report["evaluation"]["dense"]["corpora"], sort_keys=True) for report in reports}
    if len(texts) > 1:
        sys.exit("these runs were measured on different texts, so one table cannot hold them")
    Console(width=max(130, Console().width)).print(table(reports))


def table(reports: list[Report]) -> Table:
    """Return the table: one row a model, the dense one first."""
    first = reports[0]
    names = [found["name"] for found in first["evaluation"]["differences"] if not found["name"].endswith(".perplexity")]
    made = Table(title=f"{first['model']}: dense and compressed", caption=_caption(first))
    for head in ("model", "bits/weight", "weight files", "operations", *names, "seconds"):
        made.add_column(head, justify="left" if head == "model" else "right")
    dense = {found["name"]: found["reference"] for found in first["evaluation"]["differences"]}
    bf16 = first["totals"]["dense_bf16_bytes"]
    made.add_row("dense, bf16", "16", f"{bf16 / 1e6:.2f} MB", "100 %", *(f"{dense[n]:.4g}" for n in names), "-")
    for report in reports:
        made.add_row(*_cells(report, names))
    return made


def _cells(report: Report, names: list[str]) -> list[str]:
    found = {each["name"]: each for each in report["evaluation"]["differences"]}
    size = f"{report['totals']['file_bytes'] / 1e6:.2f} MB ({report['claims']['size_against_bf16']:+.0%})"
    return [
        report["method"],
        f"{report['price']['bits_per_weight']:.3f}",
        size,
        f"{1 + report['claims']['operations']:.0%}",
        *(_measure(found[name]) for name in names),
        f"{sum(stage['seconds'] for stage in report['stages'].values()):.0f}",
    ]


def _measure(found: dict[str, Any]) -> str:
    """Return a figure with its difference to dense and that difference's standard error."""
    error = found["standard_error"]
    return f"{found['candidate']:.4g} ({found['difference']:+.3g}{'' if error is None else f' ± {error:.1g}'})"


def _caption(report: Report) -> str:
    corpus = report["corpus"]
    return (
        f"In brackets: difference to dense ± paired standard error. Calibrated on {corpus['name']} "
        f"({corpus['tokens']:,} tokens), measured on the other side of it. Operations: sign additions and "
        "multiplications of the compressed linears against dense multiply-adds."
    )


if __name__ == "__main__":
    main()
