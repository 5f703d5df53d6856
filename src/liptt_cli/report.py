"""The run directory as one report: `report.json` for pipelines, `report.md` for people. Torch-free."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from liptt_cli.run_directory import STAGES, RunDirectory, write_bytes, write_json

Facts = Mapping[str, Any]

_COSTS = ("seconds", "peak_bytes")

_MEASURED = ("dense", "compressed", "differences", "calibrated_on")


def write_report(run: RunDirectory) -> dict[str, Any]:
    """Write both reports from the stages' facts, and return the JSON one."""
    facts = {name: run.facts(name) for name in STAGES}
    report = {
        "version": 1,
        "run": run.path.name,
        "method": run.resolved["method"],
        "model": facts["load"]["source"]["name"],
        "claims": _claims(facts),
        "price": _price(facts),
        "allocation": _allocation(facts),
        "totals": facts["export"].get("manifest", {}).get("totals"),
        "coverage": facts["load"].get("coverage"),
        "experts": facts["binarize"].get("experts"),
        "linears": facts["binarize"]["linears"],
        "tables": facts["binarize"].get("tables", {}),
        "block_tuning": facts["binarize"]["tuning"],
        "evaluation": {
            key: facts["evaluate"].get(key) for key in ("dense", "compressed", "differences", "calibrated_on")
        },
        "lipschitz": facts["evaluate"].get("lipschitz"),
        "healed": facts["decompose"].get("healed", {}),
        "finetune": _without(facts["finetune"], *_COSTS),
        "corpus": facts["load"]["corpus"],
        "stages": {name: {key: facts[name][key] for key in _COSTS} for name in STAGES},
    }
    write_json(run.path / "report.json", report)
    write_bytes(run.path / "report.md", ("\n".join(_lines(report)) + "\n").encode())
    return report


def _price(facts: Facts) -> dict[str, Any]:
    """Return what the linears cost as they were written: the plan's figures are upper bounds where the data decide."""
    planned = _without(facts["decompose"], "forms", "predicted_costs", "healed", *_COSTS)
    written = facts["export"].get("manifest", {}).get("totals")
    if written is None:
        return planned
    bits = 8 * written["payload_bytes"] / written["weights"]
    return planned | {key: value for key, value in written.items() if key in planned} | {"bits_per_weight": bits}


def _without(facts: Facts, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in keys}


def _allocation(facts: Facts) -> dict[str, Any]:
    """Return where the bits went, by role and block, and what the evidence predicted, if there was some."""
    bits = {name: found["bits_per_weight"] for name, found in facts["binarize"]["linears"].items()}
    by: dict[str, dict[str, list[float]]] = {"roles": {}, "blocks": {}}
    for site in facts["load"]["structure"]["sites"]:
        by["roles"].setdefault(site["role"], []).append(bits[site["name"]])
        by["blocks"].setdefault(str(site["block"]), []).append(bits[site["name"]])
    spread = {kind: {key: _spread(found) for key, found in groups.items()} for kind, groups in by.items()}
    return {**spread, "predicted_costs": facts["decompose"].get("predicted_costs")}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "mean": sum(values) / len(values), "most": max(values)}


def _claims(facts: Facts) -> dict[str, Any]:
    """Return the three claims of the paper's abstract, each as a share of the dense model's figure."""
    price, totals = _price(facts), facts["export"].get("manifest", {}).get("totals")
    operations = price["sign_additions"] + price["multiplications"]
    return {
        "size_against_bf16": None if totals is None else totals["file_bytes"] / totals["dense_bf16_bytes"] - 1,
        "operations": operations / price["dense_operations"] - 1,
        "accuracy_kept": _kept(facts["evaluate"]),
    }


def _kept(evaluation: Facts) -> float | None:
    """Return the mean share of the dense accuracy above chance that was kept, over tasks that tell."""
    shares = [found["kept_share"] for found in evaluation.get("differences", ()) if found.get("kept_share") is not None]
    return sum(shares) / len(shares) if shares else None


def _lines(report: Facts) -> Iterator[str]:
    price, totals, claims = report["price"], report["totals"], report["claims"]
    yield f"# {report['method']} on {report['model']}: {price['bits_per_weight']:.4f} bits per weight"
    yield ""
    if totals is not None:
        yield (
            f"{price['payload_bytes']:,} bytes for {price['weights']:,} weights. Weight files: "
            f"{totals['file_bytes']:,} bytes; dense in bf16: {totals['dense_bf16_bytes']:,}."
        )
    yield (
        f"One token, compressed linears: {price['sign_additions']:,} sign additions and "
        f"{price['multiplications']:,} multiplications; dense: {price['dense_operations']:,} multiply-adds."
    )
    for name, table in report["tables"].items():
        yield (
            f"{name}: {table['bits_per_weight']:.2f} bits an entry, {table['bytes']:,} bytes of the weight files; "
            f"relative squared error {table['error']:.2g}."
        )
    yield "Size, operations, accuracy kept: " + ", ".join(
        _percent(claims[key]) for key in ("size_against_bf16", "operations", "accuracy_kept")
    )
    yield from (f"{found['told']}." for found in (report["coverage"], report["experts"]) if found is not None)
    yield from _quality(report["evaluation"])
    yield from _gains(report["lipschitz"])
    yield from _block_tuning(report["block_tuning"])
    yield from _training(report["finetune"])
    yield from _split(report["allocation"])
    yield from _errors(report["linears"])
    yield from _costs(report["stages"])


def _quality(evaluation: Facts) -> Iterator[str]:
    rows = [
        (
            found["name"],
            _number(found["reference"]),
            _number(found["candidate"]),
            f"{_number(found['difference'])} ± {_number(found['standard_error'])}",
            _percent(found["kept_share"]),
        )
        for found in evaluation["differences"] or ()
    ]
    if rows:
        for name in evaluation["calibrated_on"] or ():
            yield f"Careful: {name} is the very text that the run was calibrated on; its numbers are too good."
        yield from _table("Quality", ("measure", "dense", "compressed", "difference", "kept above chance"), rows)


def _gains(lipschitz: Facts | None) -> Iterator[str]:
    if lipschitz is None:
        return
    rows = [
        (
            str(after["block"]),
            _number(after["teacher_gain"]),
            f"{before['ratio']:.3f}",
            f"{after['ratio']:.3f}",
            _number(after.get("amplification")),
            _number(after.get("error_out")),
        )
        for before, after in zip(lipschitz["before"], lipschitz["after"], strict=True)
    ]
    heads = ("block", "dense gain", "ratio before the fine-tune", "ratio after", "amplification of errors", "error out")
    yield from _table("Lipschitz retention: student's to teacher's gain", heads, rows)


def _block_tuning(records: Sequence[Facts]) -> Iterator[str]:
    """Tell of each block's trainings of one kind: the loss that the first began with, and how the last one ended."""
    kinds: dict[tuple[int, str], list[Facts]] = {}
    for record in records:
        kinds.setdefault((record["block"], record["trained"]), []).append(record)
    rows = [
        (str(block), kind, str(sum(r["steps"] for r in found)), _number(found[0]["first"]), _number(found[-1]["last"]))
        for (block, kind), found in kinds.items()
    ]
    if rows:
        yield from _table("Tuning of blocks", ("block", "trained", "steps", "first loss", "last loss"), rows)


def _training(finetune: Facts) -> Iterator[str]:
    if not finetune.get("steps"):
        return
    parts = finetune["parts"]
    rows = [(name, _number(parts["first"][name]), _number(parts["last"][name])) for name in parts["first"]]
    yield from _table(f"Fine-tune: {finetune['steps']} steps", ("part of the loss", "first", "last"), rows)
    if finetune["flip_share"] is not None:
        yield f"Codes that flipped: {finetune['flip_share']:.2%}."


def _split(allocation: Facts) -> Iterator[str]:
    """Tell how unevenly the bits were shared out; an even split needs no table."""
    costs = allocation["predicted_costs"]
    if costs is None:
        return
    rows = [
        (name if kind == "roles" else f"block {name}", *(f"{found[key]:.3f}" for key in ("least", "mean", "most")))
        for kind in ("roles", "blocks")
        for name, found in allocation[kind].items()
    ]
    yield from _table("Where the bits went", ("linears", "least bits/weight", "mean", "most"), rows)
    yield ""
    share = costs["chosen"] / costs["uniform"] - 1 if costs["uniform"] else None
    yield (
        f"Predicted cost by the evidence: {_number(costs['chosen'])}; of the uniform split: "
        f"{_number(costs['uniform'])} ({_percent(share)})."
    )


def _errors(linears: Mapping[str, Facts]) -> Iterator[str]:
    """Tell the errors by the last part of the linears' names: one row a kind."""
    kinds: dict[str, list[Facts]] = {}
    for name, facts in linears.items():
        kinds.setdefault(name.rpartition(".")[2], []).append(facts)
    rows = [
        (
            kind,
            str(len(found)),
            f"{_mean(found, 'bits_per_weight'):.4f}",
            f"{_mean(found, 'error'):.4f}",
            f"{_mean(found, 'plain_error'):.4f}",
            f"{sum(each['seconds'] for each in found):.1f}",
        )
        for kind, found in kinds.items()
    ]
    heads = ("linears", "count", "bits/weight", "error in the metric", "plain error", "seconds")
    yield from _table("Fit of each kind of linear, before any tuning (relative squared errors)", heads, rows)


def _costs(stages: Mapping[str, Facts]) -> Iterator[str]:
    rows = [(name, f"{facts['seconds']:.1f}", f"{facts['peak_bytes'] / 1e6:,.0f}") for name, facts in stages.items()]
    yield from _table("Cost", ("stage", "seconds", "peak MB so far"), rows)


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    widths = [max(len(line[k]) for line in (heads, *rows)) for k in range(len(heads))]
    yield _row(heads, widths)
    yield _row(["-" * width for width in widths], widths)
    for row in rows:
        yield _row(row, widths)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _mean(found: Sequence[Facts], key: str) -> float:
    total: float = sum(each[key] for each in found)
    return total / len(found)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"
