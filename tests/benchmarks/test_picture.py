"""The picture: well-formed, one mark a point, readable in both colour schemes, also without any point."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from picture import draw, pareto_front
from rows import read_rows

Put = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


def test_points_lie_where_they_should(put: Put):
    put("reference--sign", "sign", bits=1.13, excess=2.0)
    put("reference--liptt-ptq-0.3", "liptt-ptq", bits=0.3, excess=0.8)
    results = put("reference--liptt-ptq-1.0", "liptt-ptq", bits=1.0, excess=0.2)
    text = draw(read_rows(results, "reference"))
    root = ElementTree.fromstring(text)
    circles = [
        (float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{SVG}circle") if c.get("class") != "own"
    ]
    left, right, _ = circles  # the last one is the legend's
    assert left[0] < right[0]
    assert left[1] < right[1]  # more excess is higher up
    assert "prefers-color-scheme:dark" in text
    assert [t.text for t in root.iter(f"{SVG}text") if t.text in ("sign", "liptt-ptq")] == ["liptt-ptq", "sign"]


def test_claimed_bits_are_those_of_the_paper(put: Put):
    results = put("reference--tt-svd-sign-1.0", "tt-svd-sign", bits=1.0, excess=0.9)
    put("reference--sign", "sign", bits=1.13, excess=2.0)
    rows = read_rows(results, "reference")
    honest, claimed = (
        {float(c.get("cx", 0)) for c in ElementTree.fromstring(draw(rows, claimed=how)).iter(f"{SVG}circle")}
        for how in (False, True)
    )
    assert min(claimed) < min(honest)
    assert "claimed bits per weight" in draw(rows, claimed=True)


def test_names_do_not_cover_each_other(put: Put):
    results = put("reference--sign", "sign", bits=1.13, excess=2.0)
    put("reference--sign-onestep", "sign-onestep", bits=1.13, excess=2.0)
    texts = ElementTree.fromstring(draw(read_rows(results, "reference"))).iter(f"{SVG}text")
    heights = [float(t.get("y", 0)) for t in texts if t.text in ("sign", "sign-onestep")]
    assert len(heights) == 2 and abs(heights[0] - heights[1]) >= 11


def test_nothing_measured_is_a_picture_too(tmp_path: Path):
    assert ElementTree.fromstring(draw(read_rows(tmp_path, "reference"))).tag == f"{SVG}svg"


def test_the_front_is_what_nothing_beats():
    assert pareto_front([(1.0, 0.5), (0.5, 0.9), (0.8, 1.0), (2.0, 0.5), (2.1, 0.4)]) == [
        (0.5, 0.9),
        (1.0, 0.5),
        (2.1, 0.4),
    ]
