"""The results as tables: a short one for the README, the whole record for benchmarks/RESULTS.md.

A cell that is missing or failed is shown as such. What the text claims, it computes from the results.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ablations import ablation_table
from cells import DENSE, Cell, Group, all_cells, trials
from experiments import (
    lipschitz_line,
    lipschitz_section,
    normalised_line,
    normalised_section,
    speed_section,
    speed_summary,
)
from markdown_table import markdown
from methods import METHODS
from rows import CORPORA, TARGET_SHARE, Duel, Row, Verdict, duels, in_bits, read_rows, verdicts
from setting import held_out_nats, read_result

TASKS = {"blimp": "BLiMP", "lambada": "LAMBADA"}
JUDGE_BAR = 0.6
_SHORT_BUDGETS = (2.0, 1.0, 0.55, 0.3)
MISSING = "missing"
_PICTURES = (
    "![Excess nats over dense against honest bits]({}excess.svg)",
    "![The same against the bits that the papers claim]({}excess-claimed.svg)",
)
_QUESTION = f"Is LipTT's excess at most {TARGET_SHARE:.0%} of that of the better baseline of equal or more bits?"
_RIVAL_QUESTION = "Is LipTT ahead of the best rival (beyond two paired standard errors)?"


def short_table(results: Path) -> str:
    """Return the README's part: methods by budgets on the reference model, and what they come to."""
    rows = [row for row in read_rows(results, "reference") if row.cell.plain]
    if not any(row.whole for row in rows):
        return "Not measured yet: `make bench`, then `make tables`."
    head = f"Excess nats a token over dense on the reference model, {' / '.join(CORPORA['reference'])}:"
    short = [head, "", *_by_budget(rows), "", *_at_own_bits(rows), "", *_notes(rows)]
    short += [line for picture in _PICTURES for line in ("", picture.format("benchmarks/results/"))]
    answer = lipschitz_line(results / "lipschitz")
    without = normalised_line(results / "normalised-cores" / "normalised-cores.json")
    for line in (_summary(verdicts(rows)), _outcomes(duels(read_rows(results, "reference"))), answer, without):
        short += ["", line] if line else []
    speed = speed_summary(results)
    return "\n".join([*short, *(["", *speed] if speed else [])])


def long_text(results: Path) -> str:
    """Return the whole of RESULTS.md."""
    lines = [
        "# Results",
        "",
        "Written by `make tables` from `benchmarks/results`; `make bench` measures. Do not edit.",
        "",
    ]
    lines += [line for picture in _PICTURES for line in (picture.format("results/"), "")]
    for group, title in (("reference", "The reference model"), ("stories260K", "stories260K")):
        rows = read_rows(results, group)
        lines += [f"## {title}", "", *_table(rows), "", *_notes(rows), ""]
        lines += _section(_QUESTION, [f"- {verdict}: **{verdict.answer}**" for verdict in verdicts(rows)])
        lines += _section(_RIVAL_QUESTION, [f"- {duel}: **{duel.outcome}**" for duel in duels(rows)])
        lines += _section("What each piece is worth", ablation_table(rows))
        lines += _section("Faults", _faults(rows))
        lines += _section("The search of rates", _searches(results, group))
        lines += _section("The Lipschitz term", _gains(rows))
        lines += _section("Seconds of each stage", _stages(rows))
    lines += lipschitz_section(results / "lipschitz")
    lines += normalised_section(results / "normalised-cores" / "normalised-cores.json") + speed_section(results)
    return "\n".join([*lines, *_provenance(results)]).rstrip() + "\n"


def _summary(judged: Sequence[Verdict]) -> str:
    """Return how many verdicts are yes, and those that are not."""
    if not judged:
        return ""
    against = [verdict for verdict in judged if verdict.answer == "no"]
    named = ". Not so: " + "; ".join(map(str, against)) if against else ""
    return f"{_QUESTION} In {len(judged) - len(against)} of {len(judged)} comparisons{named}."


def _outcomes(fought: Sequence[Duel]) -> str:
    """Return how many duels with the rivals are won and by how much, and those that are not."""
    if not fought:
        return ""
    won = [duel for duel in fought if duel.outcome == "win"]
    shares = [f"{duel.share:+.0%}" for duel in sorted(won, key=lambda duel: duel.share)]
    by = f" (by {shares[-1]} to {shares[0]})" if shares else ""
    others = [f"{duel}, {duel.outcome}" for duel in fought if duel.outcome != "win"]
    named = ". Not so: " + "; ".join(others) if others else ""
    return f"{_RIVAL_QUESTION} In {len(won)} of {len(fought)} comparisons{by}{named}."


def _by_budget(rows: Sequence[Row]) -> list[str]:
    """Return a line a method with a dial and a column a budget: the excess nats on every corpus."""
    corpora = CORPORA[rows[0].cell.group]
    lines = []
    for method in dict.fromkeys(row.cell.method for row in rows if row.cell.bits is not None):
        own = {row.cell.bits: row for row in rows if row.cell.method == method}
        lines.append([method, *(_both(own.get(bits), corpora) for bits in _SHORT_BUDGETS)])
    return list(markdown(["method", *map(in_bits, _SHORT_BUDGETS)], lines))


def _at_own_bits(rows: Sequence[Row]) -> list[str]:
    """Return a line a method of one price, by honest bits: claimed and honest bits, and the excess nats."""
    corpora = CORPORA[rows[0].cell.group]
    own = [row for row in rows if row.cell.bits is None and row.cell.method != DENSE]
    missing = [row.cell.method for row in own if row.found is None]
    lines = []
    for row in sorted((row for row in own if row.found is not None), key=lambda row: (not row.whole, row.bits)):
        claimed = "-" if row.claimed is None or not row.cell.is_packed else f"{row.claimed:.4g}"
        honest = f"{row.bits:.3f}" if row.whole and row.cell.is_packed else "-"
        lines.append([row.cell.method, claimed, honest, _both(row, corpora)])
    table = list(markdown(["method without a dial", "claimed bits", "honest bits", " / ".join(corpora)], lines))
    return [*table, "", f"Not measured yet: {', '.join(missing)}."] if missing else table


def _both(row: Row | None, corpora: Sequence[str]) -> str:
    if row is None:
        return ""
    if not row.whole:
        return _state(row)
    return " / ".join(MISSING if row.excess(c) is None else f"{row.excess(c):.3f}" for c in corpora)


def _table(rows: Sequence[Row]) -> list[str]:
    corpora = CORPORA[rows[0].cell.group]
    heads = ["method", "honest bits", "bits of signs", "file kB", "size", "operations"]
    heads += [f"excess nats, {corpus}" for corpus in corpora]
    heads += [f"{name} kept" for name in TASKS.values()] + ["seconds", "peak MB"]
    return list(markdown(heads, [_cells(row, corpora) for row in rows]))


def _cells(row: Row, corpora: Sequence[str]) -> list[str]:
    if not row.whole:
        return [_planned(row.cell), *[_state(row)] * (len(corpora) + len(TASKS) + 7)]
    dense = not row.cell.is_packed
    size, operations = _size(row)
    return [
        row.label(),
        "16" if dense else f"{row.bits:.3f}",
        "-" if dense else f"{row.get('price', 'code_bits_per_weight'):.3f}",
        "-" if size is None else f"{size[0] / 1e3:,.0f}",
        "-" if size is None else f"{size[0] / size[1] - 1:+.1%}",
        "-" if dense else f"{operations - 1:+.1%}",
        *(_excess(row, corpus) for corpus in corpora),
        *(_kept(row, task) for task in TASKS),
        f"{_made_seconds(row):,.0f}" if row.cell.method != DENSE else "-",
        _megabytes(row.get("peak_bytes", "compress")),
    ]


def _state(row: Row) -> str:
    """Return why a row has no figures; a budget below what a recipe can store is no fault."""
    if row.found is None:
        return MISSING
    return "out of reach" if "cannot be met by this recipe" in str(row.get("error")) else "failed"


def _planned(cell: Cell) -> str:
    """Return what a cell that was not measured is called: its method and its dial."""
    dial = "" if cell.bits is None else f" at {'the bits of sign' if cell.bits == 'sign' else f'{cell.bits} bits'}"
    return f"{Row(cell, None).label()}{dial}"


def _size(row: Row) -> tuple[tuple[int, int] | None, float]:
    """Return the weight files' bytes with those of bf16, and the share of dense operations."""
    price = row.get("price")
    operations = (price["sign_additions"] + price["multiplications"]) / price["weights"]
    if row.cell.method == DENSE:
        return (price["bf16_bytes"], price["bf16_bytes"]), 1.0
    totals = row.get("totals")
    if totals is None or row.cell.method == "dense-tuned":
        return None, operations
    return (totals["file_bytes"], totals["dense_bf16_bytes"]), operations


def _excess(row: Row, corpus: str) -> str:
    found = row.get("corpora", corpus)
    if found is None:
        return MISSING
    if row.cell.method == DENSE:
        return f"0 (dense: {found['nats']:.3f})"
    return f"{found['excess']:+.3f} ± {found['excess_standard_error']:.3f}"


def _kept(row: Row, task: str) -> str:
    found = row.get("tasks", task)
    if found is None:
        return MISSING
    if row.cell.method == DENSE:
        return f"1 (dense: {found['accuracy']:.1%})"
    if found["kept"] is None:
        return f"- ({found['accuracy']:.1%})"
    return f"{found['kept']:.0%} ± {found['kept_standard_error']:.0%}"


def _notes(rows: Sequence[Row]) -> list[str]:
    """Return what must be known to read the table."""
    group = rows[0].cell.group
    calibration = {
        "reference": "Calibrated and tuned half on the calibration side of `stdlib`, half on text sampled from the "
        "model; measured on the other side of `stdlib` and on held-out books (`valid`), never calibrated on.",
        "stories260K": "Calibrated and tuned on 60 % of the stories of a TinyStories sample, or on text sampled from "
        "the model (`self`), measured on the other stories; the model was trained on both parts. Its widths are small, "
        "which makes scales dear.",
    }[group]
    found = [
        f"{calibration} Excess: nats a token above dense ± paired standard error. Size: weight files against bf16. "
        "Kept: (accuracy - chance) / (dense - chance). Seconds: all six stages; peak: of that process.",
    ]
    dense = next(row for row in rows if row.cell.method == DENSE)
    blimp = dense.get("tasks", "blimp", "accuracy")
    if blimp is not None and blimp < JUDGE_BAR:
        found.append(
            f"**Dense is at {blimp:.1%} on BLiMP, under {JUDGE_BAR:.0%}: this judge cannot decide on that column.**"
        )
    if any(row.get("scale") == "quick" for row in rows):
        found.append("**Measured at the quick scale: it proves that the benchmark runs; the numbers mean nothing.**")
    found += _claims(rows)
    return [line for note in found for line in (note, "")][:-1]


def _claims(rows: Sequence[Row]) -> list[str]:
    """Return the paper's three claims in one line, for the one-step method at one bit."""
    own = [row for row in rows if row.whole and row.cell.method == "liptt-onestep" and row.cell.bits == 1.0]
    best = next((row for row in own if row.cell.plain), None)
    if best is None:
        return []
    size, operations = _size(best)
    kept = ", ".join(f"{_kept(best, task)} ({name})" for task, name in TASKS.items())
    file = "-" if size is None else f"{size[0] / size[1] - 1:+.0%}"
    return [
        f"Size, operations, accuracy kept of {best.label()} at {best.bits:.3f} bits: {file}, {operations - 1:+.0%}, "
        f"{kept}; the paper claims -62 %, -40 %, 94 %."
    ]


def _faults(rows: Sequence[Row]) -> list[str]:
    return [f"- {_planned(row.cell)}: {row.get('error')}" for row in rows if row.found is not None and not row.whole]


def _searches(results: Path, group: Group) -> list[str]:
    """Return the held-out nats of every trial, a rate being a factor times the recipe's own, and the one taken."""
    lines = []
    for method, search in METHODS.items():
        if not search.rates:
            continue
        tried = {trial.trial: Row(trial, read_result(results, trial.key)) for trial in trials(group, method)}
        nats = {factor: held_out_nats(row.found) for factor, row in tried.items() if row.whole and row.found}
        best = min(nats, key=lambda factor: nats[factor]) if nats else None
        shown = ", ".join(
            f"x{factor:.2g} {f'{nats[factor]:.4f}' if factor in nats else MISSING}" for factor in search.factors
        )
        lines.append(f"- {method}: {shown}" + ("" if best is None else f"; taken: x{best:.2g}"))
    return lines


def _gains(rows: Sequence[Row]) -> Iterator[str]:
    """Return each block's student to teacher gain, before and after the fine-tune, with the term and without."""
    shown = [row for row in rows if row.cell.method == "liptt-onestep" and row.get("gain_ratios") is not None]
    heads = ("method", "bits", "gain of each block, before", "after")
    cells = [
        [row.label(), f"{row.bits:.3f}", *(_numbers(row.get("gain_ratios", when)) for when in ("before", "after"))]
        for row in shown
    ]
    return markdown(heads, cells) if cells else iter(())


def _stages(rows: Sequence[Row]) -> Iterator[str]:
    names = ("load", "decompose", "binarize", "finetune", "evaluate", "export", "measure", "all", "all_cpu")
    cells = [
        [row.label(), f"{row.bits:.3f}", *(f"{row.get('seconds', name, default=0.0):,.1f}" for name in names)]
        for row in rows
        if row.whole
    ]
    return markdown(("method", "bits", *names), cells) if cells else iter(())


def _provenance(results: Path) -> list[str]:
    """Return where and with what it was measured: one line for each distinct place."""
    found = [result for cell in all_cells() if (result := read_result(results, cell.key)) is not None]
    places = {
        f"- {result['hardware']['processor']}, {result['hardware']['cores']} cores, "
        f"{result.get('threads', '-')} threads"
        + " a cell; "
        + ", ".join(f"{name} {number}" for name, number in result["versions"].items())
        + f"; commit {result['commit']}"
        for result in found
    }
    return _section("Measured on", sorted(places))


def _made_seconds(row: Row) -> float:
    seconds = row.get("seconds")
    return sum(value for name, value in seconds.items() if name not in ("measure", "all", "all_cpu"))


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = list(lines)
    return [f"### {title}", "", *found, ""] if found else []


def _megabytes(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.0f}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
