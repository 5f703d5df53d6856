"""Excess nats over dense against bits, honest or claimed, as an SVG written by hand: a panel a corpus.

Methods with a dial are a line each, with a colour of two palettes, chosen by the reader's colour scheme, and a mark of
their own; methods of one price are dots with their names beside them. The broad grey line is the Pareto front: what no
other point beats in both bits and excess. Both axes are logarithmic.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from rows import CORPORA, Row

DIALS: Mapping[str, tuple[str, str, str]] = {
    "tt-svd-sign": ("#b3261e", "#ff8a80", "diamond"),
    "dbf": ("#7a3e9d", "#d0a6f0", "cross"),
    "nanoquant": ("#a8326f", "#ff9ccd", "hexagon"),
    "littlebit": ("#5b5f66", "#b6bcc6", "down"),
    "liptt-multistep": ("#00707a", "#63d3de", "bar"),
    "liptt-ptq": ("#0b6e4f", "#5fd3a8", "circle"),
    "liptt-onestep": ("#1f4fd6", "#8fb0ff", "triangle"),
}
PANEL_WIDTH, PANEL_HEIGHT = 440, 330
LEFT, TOP, BOTTOM, GAP = 62, 44, 46, 70
_LEGEND_COLUMNS = 3
_SHOWN_FROM = 1e-6
_BITS = tuple(2.0**power for power in range(-3, 5))
_LETTER, _LINE = 5.6, 11  # pixels of a name: the width of a letter, the height of a line

Points = Mapping[str, Sequence[tuple[float, float]]]


def draw(rows: Sequence[Row], *, claimed: bool = False) -> str:
    """Return the picture of a group's rows; panels without points are left out."""
    bits = (lambda row: row.claimed) if claimed else (lambda row: row.bits)
    panels = [(corpus, points) for corpus in CORPORA[rows[0].cell.group] if (points := _points(rows, corpus, bits))]
    width = LEFT + len(panels) * (PANEL_WIDTH + GAP) or 2 * LEFT
    height = TOP + PANEL_HEIGHT + BOTTOM + 6 + 18 * -(-len(DIALS) // _LEGEND_COLUMNS)
    kind = "claimed" if claimed else "honest"
    body = [
        line
        for number, (corpus, points) in enumerate(panels)
        for line in _lines(corpus, points, x=LEFT + number * (PANEL_WIDTH + GAP), kind=kind)
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    title = f"Excess nats per token over the dense model against {kind} bits per weight"
    return "\n".join([f'{head}role="img">', f"<title>{title}</title>", _style(), *body, "</svg>"]) + "\n"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (bits, excess) that no other one beats in both, by bits."""
    found: list[tuple[float, float]] = []
    for bits, excess in sorted(points):
        if not found or excess < found[-1][1]:
            found.append((bits, excess))
    return found


def _points(rows: Sequence[Row], corpus: str, bits: Callable[[Row], float | None]) -> Points:
    """Return (bits, excess) of each method, by bits; only what logarithms can show."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        excess, at = row.get("corpora", corpus, "excess"), bits(row)
        shown = row.whole and row.cell.plain and row.cell.is_packed
        if shown and at is not None and excess is not None and excess >= _SHOWN_FROM:
            found.setdefault(row.cell.method, []).append((at, excess))
    return {method: sorted(points) for method, points in found.items()}


@dataclass(frozen=True)
class _Panel:
    """Where the axes of a corpus lie, both between two ticks."""

    x: int
    bits: tuple[float, float]
    excess: tuple[float, float]

    def spot(self, bits: float, excess: float) -> tuple[float, float]:
        """Return where a point lies."""
        across, up = (_share(value, ends) for value, ends in ((bits, self.bits), (excess, self.excess)))
        return self.x + PANEL_WIDTH * across, TOP + PANEL_HEIGHT * (1 - up)


def _share(value: float, ends: tuple[float, float]) -> float:
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


def _lines(corpus: str, points: Points, *, x: int, kind: str) -> Iterator[str]:
    every = [point for found in points.values() for point in found]
    ends = [_between([point[axis] for point in every], ticks) for axis, ticks in enumerate((_BITS, _ticks()))]
    panel = _Panel(x, *ends)
    yield f'<text class="title" x="{x}" y="{TOP - 18}">excess nats over dense, {escape(corpus)}</text>'
    yield from _grid(panel, kind)
    front = " ".join(f"{a:.1f},{b:.1f}" for a, b in (panel.spot(*point) for point in pareto_front(every)))
    yield f'<polyline class="front" points="{front}"/>'
    for number, method in enumerate(method for method in DIALS if method in points):
        places = [panel.spot(*point) for point in points[method]]
        name = f"m{list(DIALS).index(method)}"
        yield f'<polyline class="{name} line" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}"/>'
        yield from (_mark(DIALS[method][2], name, *spot) for spot in places)
        row, column = divmod(number, _LEGEND_COLUMNS)
        down = TOP + PANEL_HEIGHT + BOTTOM + 10 + 18 * row
        across = x + column * PANEL_WIDTH / _LEGEND_COLUMNS
        yield _mark(DIALS[method][2], name, across + 5, down - 4)
        yield f'<text x="{across + 14:.1f}" y="{down}">{method}</text>'
    yield from _named({method: panel.spot(*found[0]) for method, found in points.items() if method not in DIALS}, panel)


def _named(spots: Mapping[str, tuple[float, float]], panel: _Panel) -> Iterator[str]:
    """Yield a dot and a name for each method of one price; a name moves down until it covers none above."""
    taken: list[tuple[float, float, float]] = []
    for method, (x, y) in sorted(spots.items(), key=lambda item: item[1][1]):
        wide = _LETTER * len(method)
        left = x + 7 if x + 7 + wide <= panel.x + PANEL_WIDTH + GAP - 8 else x - 7 - wide
        down = y + 4
        while any(abs(down - other) < _LINE and left < end and start < left + wide for start, end, other in taken):
            down += 1
        taken.append((left, left + wide, down))
        yield f'<circle class="own" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'
        yield f'<text class="small" x="{left:.1f}" y="{down:.1f}">{escape(method)}</text>'


def _grid(panel: _Panel, kind: str) -> Iterator[str]:
    right, bottom = panel.x + PANEL_WIDTH, TOP + PANEL_HEIGHT
    for tick in (tick for tick in _ticks() if panel.excess[0] <= tick <= panel.excess[1]):
        _, y = panel.spot(panel.bits[0], tick)
        yield f'<line class="grid" x1="{panel.x}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="left" x="{panel.x - 8}" y="{y + 4:.1f}">{tick:g}</text>'
    for tick in (tick for tick in _BITS if panel.bits[0] <= tick <= panel.bits[1]):
        x, _ = panel.spot(tick, panel.excess[0])
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        yield f'<text class="middle" x="{x:.1f}" y="{bottom + 16}">{tick:g}</text>'
    yield f'<text class="middle" x="{panel.x + PANEL_WIDTH / 2:.1f}" y="{bottom + 34}">{kind} bits per weight</text>'


def _between(values: Sequence[float], ticks: Sequence[float]) -> tuple[float, float]:
    """Return the ticks next below and next above all values."""
    low = max(tick for tick in ticks if tick <= min(values))
    return low, min(tick for tick in ticks if tick >= max(values) and tick > low)


def _ticks() -> list[float]:
    return [step * 10.0**power for power in range(-6, 4) for step in (1, 2, 5)]


def _mark(kind: str, name: str, x: float, y: float) -> str:
    if kind == "circle":
        return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    corners = {
        "square": [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        "diamond": [(0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)],
        "triangle": [(0, -5.5), (5, 4), (-5, 4)],
        "down": [(0, 5.5), (5, -4), (-5, -4)],
        "hexagon": [(-5, 0), (-2.5, -4.5), (2.5, -4.5), (5, 0), (2.5, 4.5), (-2.5, 4.5)],
        "pole": [(-2.5, -6), (2.5, -6), (2.5, 6), (-2.5, 6)],
        "bar": [(-6, -2.5), (6, -2.5), (6, 2.5), (-6, 2.5)],
        "cross": [(-1.5, -5), (1.5, -5), (1.5, -1.5), (5, -1.5), (5, 1.5), (1.5, 1.5), (1.5, 5), (-1.5, 5)]
        + [(-1.5, 1.5), (-5, 1.5), (-5, -1.5), (-1.5, -1.5)],
    }[kind]
    return f'<polygon class="{name}" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'


def _style() -> str:
    light = "".join(_rules(number, colours[0]) for number, colours in enumerate(DIALS.values()))
    dark = "".join(_rules(number, colours[1]) for number, colours in enumerate(DIALS.values()))
    return (
        "<style>text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.left{text-anchor:end}"
        ".small{font-size:10px}.own{fill:#1f2328}.middle{text-anchor:middle}.grid{stroke:#d0d7de;stroke-width:1}.line{fill:none!important;stroke-width:1.8}"
        ".front{fill:none;stroke:#8b949e;stroke-width:7;stroke-opacity:.3;stroke-linejoin:round}"
        f"{light}@media (prefers-color-scheme:dark){{text,.own{{fill:#e6edf3}}.grid{{stroke:#3d444d}}{dark}}}</style>"
    )


def _rules(number: int, colour: str) -> str:
    return f".m{number}{{fill:{colour};stroke:{colour}}}"
