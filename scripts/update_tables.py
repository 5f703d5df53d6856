"""`make tables`: from benchmarks/results to the README's table, benchmarks/RESULTS.md and a picture.

    python scripts/update_tables.py [--check]

The README's part stands between two markers; all else in it is left alone. With --check nothing is written, and the
exit status is 1 if anything on disk is not what the results give.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from picture import draw  # noqa: E402  # benchmarks/ is no package
from rows import read_rows  # noqa: E402  # the same
from tables import long_text, short_table  # noqa: E402  # the same

BEGIN, END = "<!-- results: written by make tables -->", "<!-- /results -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check every file; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the tables from the results of the benchmark.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--record", type=Path, default=ROOT / "benchmarks" / "RESULTS.md")
    options = parser.parse_args(arguments)
    stale = [
        path
        for path, text in rendered(options.results, readme=options.readme, record=options.record).items()
        if not path.exists() or path.read_text(encoding="utf8") != text
    ]
    if options.check:
        for path in stale:
            print(f"{path}: stale; run `make tables`", file=sys.stderr)
        return 1 if stale else 0
    for path, text in rendered(options.results, readme=options.readme, record=options.record).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")
        print(path)
    return 0


def rendered(results: Path, *, readme: Path, record: Path) -> dict[Path, str]:
    """Return the text that each file should have."""
    rows = read_rows(results, "reference")
    return {
        readme: between_markers(readme.read_text(encoding="utf8"), short_table(results)),
        record: long_text(results),
        results / "excess.svg": draw(rows),
        results / "excess-claimed.svg": draw(rows, claimed=True),
    }


def between_markers(text: str, table: str) -> str:
    """Return a text with the part between the markers replaced.

    Raises:
        SystemExit: if it does not have both markers once, in order.
    """
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed or BEGIN in tail or END in tail:
        raise SystemExit(f"the README needs the two lines {BEGIN} and {END}, once and in this order")
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"


if __name__ == "__main__":
    sys.exit(main())
