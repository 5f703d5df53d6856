"""Excess nats over dense against honest bits, as an SVG written by hand: a panel a corpus, a line a method.

The broad grey line is the Pareto front: what no other point beats in both bits and excess.
Colours come from two palettes, chosen by the reader's colour scheme, and every line also has its own mark.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from cells import DENSE
from rows import CORPORA, Row

METHODS: Mapping[str, tuple[str, str, str]] = {
    "sign": ("#8a6100", "#f0b840", "square"),
    "sign-onestep": ("#c2571a", "#ffab73", "pole"),
    "tt-svd-sign": ("#b3261e", "#ff8a80", "diamond"),
    "dbf": ("#7a3e9d", "#d0a6f0", "cross"),
    "nanoquant": ("#a8326f", "#ff9ccd", "hexagon"),
    "littlebit": ("#5b5f66", "#b6bcc6", "down"),
    "liptt-multistep": ("#00707a", "#63d3de", "bar"),
    "liptt-ptq": ("#0b6e4f", "#5fd3a8", "circle"),
    "liptt-onestep": ("#1f4fd6", "#8fb0ff", "triangle"),
}
PANEL_WIDTH, PANEL_HEIGHT = 360, 260
LEFT, TOP, BOTTOM, GAP = 62, 44, 46, 70
_LEGEND_COLUMNS = 3
_SHOWN_FROM = 1e-6


def draw(rows: Sequence[Row]) -> str:
    """Return the picture of a group's rows; panels without points are left out."""
    panels = [(corpus, points) for corpus in CORPORA[rows[0].cell.group] if (points := _points(rows, corpus))]
    width = LEFT + len(panels) * (PANEL_WIDTH + GAP) or 2 * LEFT
    height = TOP + PANEL_HEIGHT + BOTTOM + 6 + 18 * -(-len(METHODS) // _LEGEND_COLUMNS)
    body = [
        line for number, panel in enumerate(panels) for line in _lines(*panel, x=LEFT + number * (PANEL_WIDTH + GAP))
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    title = "Excess nats per token over the dense model against honest bits per weight"
    return "\n".join([f'{head}role="img">', f"<title>{title}</title>", _style(), *body, "</svg>"]) + "\n"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (bits, excess) that no other one beats in both, by bits."""
    found: list[tuple[float, float]] = []
    for bits, excess in sorted(points):
        if not found or excess < found[-1][1]:
            found.append((bits, excess))
    return found


def _points(rows: Sequence[Row], corpus: str) -> dict[str, list[tuple[float, float]]]:
    """Return (bits, excess) of each method, by bits; only what a logarithm can show."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        excess = row.get("corpora", corpus, "excess")
        shown = row.whole and row.cell.method in METHODS and row.cell.plain
        if shown and row.cell.method != DENSE and excess is not None and excess >= _SHOWN_FROM:
            found.setdefault(row.cell.method, []).append((row.bits, excess))
    return {method: sorted(points) for method, points in found.items()}


@dataclass(frozen=True)
class _Panel:
    """Where the axes of a corpus lie: bits from 0, excess on a logarithmic scale between two ticks."""

    x: int
    most_bits: float
    low: float
    high: float

    def spot(self, bits: float, excess: float) -> tuple[float, float]:
        """Return where a point lies."""
        share = math.log(excess / self.low) / math.log(self.high / self.low)
        return self.x + PANEL_WIDTH * bits / self.most_bits, TOP + PANEL_HEIGHT * (1 - share)


def _lines(corpus: str, points: Mapping[str, Sequence[tuple[float, float]]], *, x: int) -> Iterator[str]:
    every = [point for found in points.values() for point in found]
    most_bits = math.ceil(max(bits for bits, _ in every) * 5 + 0.5) / 5
    panel = _Panel(x, most_bits, *_between([excess for _, excess in every]))
    yield f'<text class="title" x="{x}" y="{TOP - 18}">excess nats over dense, {escape(corpus)} (log scale)</text>'
    yield from _grid(panel)
    front = " ".join(f"{a:.1f},{b:.1f}" for a, b in (panel.spot(*point) for point in pareto_front(every)))
    yield f'<polyline class="front" points="{front}"/>'
    for number, (method, found) in enumerate(points.items()):
        places = [panel.spot(*point) for point in found]
        name = f"m{list(METHODS).index(method)}"
        yield f'<polyline class="{name} line" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}"/>'
        yield from (_mark(METHODS[method][2], name, *spot) for spot in places)
        row, column = divmod(number, _LEGEND_COLUMNS)
        down = TOP + PANEL_HEIGHT + BOTTOM + 10 + 18 * row
        across = x + column * PANEL_WIDTH / _LEGEND_COLUMNS
        yield _mark(METHODS[method][2], name, across + 5, down - 4)
        yield f'<text x="{across + 14:.1f}" y="{down}">{method}</text>'


def _grid(panel: _Panel) -> Iterator[str]:
    right, bottom = panel.x + PANEL_WIDTH, TOP + PANEL_HEIGHT
    for tick in (tick for tick in _ticks() if panel.low <= tick <= panel.high):
        _, y = panel.spot(0.0, tick)
        yield f'<line class="grid" x1="{panel.x}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="left" x="{panel.x - 8}" y="{y + 4:.1f}">{tick:g}</text>'
    for step in range(round(panel.most_bits * 5) + 1):
        x, _ = panel.spot(step / 5, panel.low)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        yield f'<text class="middle" x="{x:.1f}" y="{bottom + 16}">{step / 5:g}</text>'
    yield f'<text class="middle" x="{panel.x + PANEL_WIDTH / 2:.1f}" y="{bottom + 34}">honest bits per weight</text>'


def _between(values: Sequence[float]) -> tuple[float, float]:
    """Return the ticks next below and next above all values."""
    low = max(tick for tick in _ticks() if tick <= min(values))
    return low, min(tick for tick in _ticks() if tick >= max(values) and tick > low)


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
    light = "".join(_rules(number, colours[0]) for number, colours in enumerate(METHODS.values()))
    dark = "".join(_rules(number, colours[1]) for number, colours in enumerate(METHODS.values()))
    return (
        "<style>text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.left{text-anchor:end}"
        ".middle{text-anchor:middle}.grid{stroke:#d0d7de;stroke-width:1}.line{fill:none!important;stroke-width:1.8}"
        ".front{fill:none;stroke:#8b949e;stroke-width:7;stroke-opacity:.3;stroke-linejoin:round}"
        f"{light}@media (prefers-color-scheme:dark){{text{{fill:#e6edf3}}.grid{{stroke:#3d444d}}{dark}}}</style>"
    )


def _rules(number: int, colour: str) -> str:
    return f".m{number}{{fill:{colour};stroke:{colour}}}"
