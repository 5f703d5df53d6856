"""What the Lipschitz experiments found, as Markdown; torch-free, like all that reads results."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from lipschitz_cells import DISTURBANCES, Cell
from pairing import paired_difference

_NONE = "none"


def table(results: Path, cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a Markdown table a corpus: per situation and term, excess nats over dense under each disturbance.

    Terms show the paired difference from no term, over the seeds that both have.
    """
    found = _read(results, cells)
    for corpus in _corpora(found):
        yield f"| {corpus} | term | {' | '.join(DISTURBANCES)} | largest block ratio | failed |"
        yield f"| --- | --- |{' ---: |' * (len(DISTURBANCES) + 2)}"
        for situation, term in dict.fromkeys((cell.situation, cell.term) for cell in found):
            rows = _seeds(found, situation, term)
            yield f"| {situation} | {term} | {' | '.join(_figures(rows, _beside(found, situation, rows), corpus))} |"
        yield ""


def answers(results: Path, cells: Sequence[Cell], *, extremes: bool = True) -> Iterator[str]:
    """Yield a line a term and corpus: in how many comparisons with no term it is better, worse or a tie.

    A comparison is one situation and disturbance; better or worse is beyond two paired standard errors.
    """
    found = _read(results, cells)
    for term, corpus in product(dict.fromkeys(cell.term for cell in found if cell.term != _NONE), _corpora(found)):
        pairs = dict(_compared(found, term, corpus))
        if not pairs:
            continue
        better = sum(1 for gap, error in pairs.values() if gap < -2 * error)
        worse = sum(1 for gap, error in pairs.values() if gap > 2 * error)
        told = f"{term} on {corpus}: better in {better} of {len(pairs)}, worse in {worse}"
        yield f"{told}; {_ends(pairs)}" if extremes else told


def _ends(pairs: Mapping[str, tuple[float, float]]) -> str:
    """Return the least and the largest difference, and where."""
    ends = [pick(pairs, key=lambda place: pairs[place][0]) for pick in (min, max)]
    return "from {} to {}".format(*(f"{pairs[end][0]:+.3f} ± {pairs[end][1]:.3f} ({end})" for end in ends))


def window_counts(results: Path, cells: Sequence[Cell]) -> list[int]:
    """Return over how many windows a corpus was measured; one number, if all cells had the same."""
    done = [row for row in _read(results, cells).values() if row["status"] == "ok"]
    found = [each for row in done for corpora in row["excess"].values() for each in corpora.values()]
    return sorted({len(each["excess_windows"].split()) for each in found})


def _compared(found: Mapping[Cell, Any], term: str, corpus: str) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield each comparison of a term with none: where, the paired difference and its standard error."""
    for situation, name in product(dict.fromkeys(cell.situation for cell in found), DISTURBANCES):
        rows = _seeds(found, situation, term)
        gap = _gap(rows, _beside(found, situation, rows), name, corpus=corpus)
        if gap is not None:
            yield f"{situation}, {name}", gap


def _read(results: Path, cells: Sequence[Cell]) -> dict[Cell, Any]:
    paths = {cell: results / f"{cell.key}.json" for cell in cells}
    return {cell: json.loads(path.read_text(encoding="utf8")) for cell, path in paths.items() if path.exists()}


def _corpora(found: Mapping[Cell, Any]) -> list[str]:
    done = [row for row in found.values() if row["status"] == "ok"]
    return list(dict.fromkeys(corpus for row in done for corpus in row["excess"][DISTURBANCES[0]]))


def _seeds(found: Mapping[Cell, Any], situation: str, term: str) -> dict[int, Any]:
    return {cell.seed: row for cell, row in found.items() if (cell.situation, cell.term) == (situation, term)}


def _beside(found: Mapping[Cell, Any], situation: str, rows: Mapping[int, Any]) -> dict[int, Any]:
    """Return the results without a term, of the seeds that are measured with one; none beside themselves."""
    plain = _seeds(found, situation, _NONE)
    return {} if plain == rows else {seed: row for seed, row in plain.items() if seed in rows}


def _gap(
    rows: Mapping[int, Any], plain: Mapping[int, Any], disturbance: str, *, corpus: str
) -> tuple[float, float] | None:
    both = [seed for seed in rows if seed in plain and rows[seed]["status"] == plain[seed]["status"] == "ok"]
    ours, theirs = ([side[seed]["excess"][disturbance][corpus] for seed in both] for side in (rows, plain))
    return paired_difference(ours, theirs) if both else None


def _figures(rows: Mapping[int, Any], plain: Mapping[int, Any], corpus: str) -> Iterator[str]:
    done = [row for row in rows.values() if row["status"] == "ok"]
    for name in DISTURBANCES:
        gap = _gap(rows, plain, name, corpus=corpus)
        if gap is not None:
            yield f"{gap[0]:+.4f} ± {gap[1]:.4f}"
        elif done:
            yield f"{math.fsum(row['excess'][name][corpus]['excess'] for row in done) / len(done):.3f}"
        else:
            yield "-"
    ratios = [ratio for row in done for ratio in row["ledger"]["ratio"]]
    yield f"{max(ratios):.2f}" if ratios else "-"
    yield str(len(rows) - len(done))
