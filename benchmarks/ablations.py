"""What each piece of the flagship is worth: its one-step recipe with one thing changed, at two budgets."""

from collections.abc import Sequence

from cells import VARIANTS
from markdown_table import markdown
from pairing import paired_difference
from rows import CORPORA, Row, in_bits

_OURS = "liptt-onestep"


def ablation_table(rows: Sequence[Row]) -> list[str]:
    """Return a line a change and a column a budget: paired differences of excess nats, positive where it is worse."""
    corpora = CORPORA[rows[0].cell.group]
    own = [row for row in rows if row.cell.method == _OURS and row.cell.seed == 0 and row.whole]
    changed = [row for row in own if row.cell.variant is not None]
    budgets = sorted({row.cell.bits for row in changed if isinstance(row.cell.bits, float)}, reverse=True)
    if not changed:
        return []
    plain = {row.cell.bits: row for row in own if row.cell.plain}
    lines = []
    for name, variant in VARIANTS.items():
        here = {row.cell.bits: row for row in changed if row.cell.variant == name}
        lines.append([variant.title, *(_differences(here.get(bits), plain.get(bits), corpora) for bits in budgets)])
    heads = [f"{_OURS} changed: more nats on {' / '.join(corpora)}", *map(in_bits, budgets)]
    return list(markdown(heads, lines))


def _differences(row: Row | None, plain: Row | None, corpora: Sequence[str]) -> str:
    if row is None or plain is None:
        return "missing"
    return " / ".join(_difference(row, plain, corpus) for corpus in corpora)


def _difference(row: Row, plain: Row, corpus: str) -> str:
    sides = [each.get("corpora", corpus) for each in (row, plain)]
    pair = None if None in sides else paired_difference(sides[:1], sides[1:])
    return "missing" if pair is None else f"{pair[0]:+.3f} ± {pair[1]:.3f}"
