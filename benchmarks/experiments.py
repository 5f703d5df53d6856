"""The experiments beside the big table, as sections of RESULTS.md and a line of the README; torch-free."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lipschitz_cells import all_cells as lipschitz_cells
from lipschitz_table import answers, table, window_counts
from markdown_table import markdown
from rows import in_bits

_SEEDS = (0, 1, 2)
_SPEED = (
    "Speed of a synthetic Llama of 411M linear weights in one run (`make speed`), dense in its quicker dtype, by "
    "transformers as it is and by our own loop:"
)
_LIPSCHITZ_QUESTION = (
    "Does the Lipschitz term help (estimator.sides.weight against none, from the same codes, over all situations and "
    "disturbances of RESULTS.md, calibrated on `stdlib` alone)?"
)


def lipschitz_line(results: Path) -> str:
    """Return what each Lipschitz term came to, for the README; nothing where none was measured."""
    found = list(answers(results, list(lipschitz_cells(_SEEDS)), extremes=False))
    return f"{_LIPSCHITZ_QUESTION} {'; '.join(found)}." if found else ""


def lipschitz_section(results: Path) -> list[str]:
    """Return the experiments of benchmarks/lipschitz.py: the answers, then every figure."""
    cells = list(lipschitz_cells(_SEEDS))
    lines = [f"- {line}" for line in answers(results, cells)]
    if not lines:
        return []
    situation = (
        "A situation: good (ADMM) or naive (TT-SVD, then signs) start, the recipe's rates or four times them, all or a "
        "tenth of the calibration windows. Without a term: excess nats over dense; with one: paired difference from "
        f"none. Evaluated on {' or '.join(map(str, window_counts(results, cells)))} windows of each corpus."
    )
    return ["## The Lipschitz question", "", *lines, "", situation, "", *table(results, cells)]


def speed_summary(results: Path) -> list[str]:
    """Return the README's part on speed: a whole model's engines, and which of the numbers asked for are missed."""
    path = results / "decode.json"
    if not path.exists():
        return []
    heads = (
        "engine, one thread",
        "decode ms a token",
        "prefill of 128, ms",
        "MB read a token",
        "share of memory floor",
    )
    lines = [_engine(each) for each in json.loads(path.read_text(encoding="utf8"))["engines"]]
    asked = _targets(results)
    missed = [f"{row['what']}, {row['measured']['median']:.3g}" for row in asked if row["verdict"] == "missed"]
    met = f"Of {len(asked)} numbers asked for {len(asked) - len(missed)} reach what they must"
    return [_SPEED, "", *markdown(heads, lines), "", f"{met}{'; not: ' + '; '.join(missed) if missed else ''}."]


def speed_section(results: Path) -> list[str]:
    """Return every number of speed that is asked for, of one linear and of a whole model."""
    rows = [_target(row) for row in _targets(results)]
    heads = ("one thread unless said", "median (quartiles)", "must", "aim", "")
    return ["## Speed", "", _SPEED, "", *markdown(heads, rows), ""] if rows else []


def normalised_line(path: Path) -> str:
    """Return what the normalisations that the paper leaves out would cost, for the README."""
    if not path.exists():
        return ""
    rows = json.loads(path.read_text(encoding="utf8"))["rows"]
    plain = {row["bits"]: row["excess"] for row in rows if row["norm"] == "none"}
    told = [
        f"{row['norm']} at {in_bits(row['bits'])} {row['extra_bytes'] / row['payload_bytes']:+.0%} bytes and "
        f"{row['excess'] - plain[row['bits']]:+.2f} nats"
        for row in rows
        if row["norm"] != "none"
    ]
    return f"What a normalisation after each core, which the paper leaves out, would cost: {'; '.join(told)}."


def normalised_section(path: Path) -> list[str]:
    """Return the experiment of benchmarks/normalised_cores.py."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf8"))
    head = f"{found['steps']} steps on {found['calibration_windows']} windows of stdlib, the same for each; one seed."
    heads = ["bits", "normalisation", "excess nats", "seconds a step", "bytes", "operations a token"]
    cells = [
        [
            f"{row['bits']:g}",
            row["norm"],
            f"{row['excess']:+.3f} ± {row['excess_standard_error']:.3f}",
            f"{row['seconds_a_step']:.2f}",
            f"{row['extra_bytes'] / row['payload_bytes']:+.1%}",
            f"{row['extra_operations'] / row['operations']:+.2%}",
        ]
        for row in found["rows"]
    ]
    return ["## A normalisation after each core", "", head, "", *markdown(heads, cells), ""]


def _target(row: Mapping[str, Any]) -> list[str]:
    """Return a row of what benchmarks/targets.py wrote."""
    measured, word = row["measured"], {"aim": "aim met", "must": "met", "missed": "**missed**"}[row["verdict"]]
    spread = f"{measured['median']:.3g} ({measured['low']:.3g} to {measured['high']:.3g})"
    return [row["what"], spread, f"{row['must']:g}", f"{row['aim']:g}", word]


def _targets(results: Path) -> list[Mapping[str, Any]]:
    found = [path for name in ("matmul", "decode") if (path := results / f"{name}.json").exists()]
    return [row for path in found for row in json.loads(path.read_text(encoding="utf8"))["table"]]


def _engine(facts: Mapping[str, Any]) -> list[str]:
    prompt = facts["rounds"][0]["prompt_tokens"]
    return [
        f"{facts['name']} ({facts['dtype']})",
        f"{1000 / facts['decode_tokens_per_second']['median']:.1f}",
        f"{1000 * prompt / facts['prefill_tokens_per_second']['median']:.0f}",
        f"{facts['bytes_read_per_token'] / 1e6:.0f}",
        f"{facts['memory_floor_share']['median']:.0%}",
    ]
