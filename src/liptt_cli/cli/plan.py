"""`liptt plan`: the price of a run before it is paid, without weights and without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from liptt_cli.cli import screen
from liptt_cli.config import LoadedConfig, configs_folder, load_config
from liptt_cli.errors import ConfigError
from liptt_cli.exports.preflight import refuse_forms
from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.architectures import find_shape
from liptt_cli.planning.evidence import Evidence, check, read_evidence
from liptt_cli.planning.fit_cost import evidence_multiplications, fit_multiplications, training_multiplications
from liptt_cli.planning.plan import Plan, chosen_sites, structure, with_rates
from liptt_cli.planning.sites import SiteShape


def plan_command(
    config: Annotated[str, typer.Option("--config", "-c", help="A YAML file, or the name of a shipped configuration.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="stage.key=value; can be given again.", metavar="KEY=VALUE")
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="Run directory or evidence.json that the knapsack chooses by.", metavar="RUN")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, a row for each linear.")] = False,
) -> None:
    """Print what a run would cost: bits, bytes, operations and memory, for each linear and in total.

    Where `decompose.allocator` is a knapsack, the forms are its own only by evidence that `liptt compress` measured.

    Example: liptt plan --config llama7b.yaml --set bits_per_weight=0.8
    """
    print_plan(load_config(config, overrides=overrides or []), evidence=evidence, as_json=as_json)


def print_plan(loaded: LoadedConfig, *, evidence: Path | None = None, as_json: bool) -> None:
    """Print the plan of a loaded configuration, by stored evidence if there is some.

    Raises:
        ConfigError: if there is no model, or nothing chooses by evidence, or it was measured with other options.
        InputError: if the evidence cannot be read, or is of another model.
    """
    settings = loaded.config
    if settings.model is None:
        raise ConfigError("model: a method alone has no price; add --set model=DIRECTORY or a hub id")
    model = find_shape(
        settings.model, revision=settings.revision, near=loaded.source_path.parent, configs=configs_folder()
    )
    sites = chosen_sites(settings, model)
    found = None if evidence is None else _evidence(evidence, loaded, with_rates(settings, model, sites), sites=sites)
    plan = structure(settings, model, sites, evidence=found)
    refuse_forms(settings, plan.forms)
    rows = [
        row | {"fit_multiply_additions": fit_multiplications(settings, plan.forms[row["linear"]])}
        for row in plan.rows()
    ]
    totals = _totals(loaded, plan) | {"allocator": settings.decompose.allocator.kind, "split": _split(plan)}
    totals |= _work(with_rates(settings, model, sites), plan, rows)
    if plan.coverage.is_low:
        screen.say(f"warning: only {plan.coverage.told()}")
    if as_json:
        screen.emit_json({"totals": totals, "linears": rows})
        return
    screen.emit(_table(rows))
    for line in _sentences(totals):
        screen.emit(line)


def _evidence(path: Path, loaded: LoadedConfig, settings: RunConfig, *, sites: Sequence[SiteShape]) -> Evidence:
    """Read evidence and refuse what is not this plan's."""
    model = str(settings.model)
    if not isinstance(settings.decompose.allocator, Knapsack):
        raise ConfigError("--evidence: decompose.allocator.kind is uniform, which chooses by none; use knapsack")
    found = read_evidence(path)
    places = (Path(model).expanduser(), loaded.source_path.parent / model, configs_folder() / model)
    name = next((place.resolve().name for place in places if place.is_dir()), model)
    check(found, settings, model=name, sites=sites)
    return found


def _split(plan: Plan) -> dict[str, Any]:
    """Return what chose the forms, and what the evidence predicts of them and of the uniform split."""
    costs = plan.predicted_costs
    if costs is None:
        return {"by": "uniform"}
    return {"by": "evidence", "predicted_cost": costs[0], "predicted_cost_of_uniform": costs[1]}


def _totals(loaded: LoadedConfig, plan: Plan) -> dict[str, Any]:
    calibration = loaded.config.calibration
    operations = plan.operations
    width = max(min(site.shape) for site in plan.sites)
    return {
        "method": loaded.config.method,
        "model": loaded.config.model,
        "linears": len(plan.sites),
        "weights": plan.weights,
        "bits_per_weight": plan.bits_per_weight,
        "payload_bytes": plan.payload_bytes,
        "model_bytes": plan.tensor_bytes,
        "dense_model_bytes": plan.model.dense_bytes,
        "table_bytes": plan.table_bytes,
        "dense_table_bytes": sum(table.dense_bytes for table in plan.model.tables),
        "sign_additions": operations.sign_additions,
        "multiplications": operations.multiplications,
        "dense_multiply_additions": plan.weights,
        "coverage": plan.coverage.to_json(),
        "memory_bytes": plan.memory_bytes(tokens=calibration.windows * calibration.most_tokens, width=width),
    }


def _work(settings: RunConfig, plan: Plan, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the multiply-additions of the compression itself: fits, evidence, trainings end to end."""
    fits = [row["fit_multiply_additions"] for row in rows]
    parameters = plan.model.dense_bytes // plan.model.site_dtype_bytes
    return {
        "fit_multiply_additions": None if None in fits else sum(fits),
        "evidence_multiply_additions": evidence_multiplications(settings, plan.sites),
        "training_multiply_additions": training_multiplications(settings, parameters),
    }


def _sentences(totals: dict[str, Any]) -> list[str]:
    size, split = 1 - totals["model_bytes"] / totals["dense_model_bytes"], totals["split"]
    allocated = []
    if split["by"] == "evidence":
        share = split["predicted_cost"] / split["predicted_cost_of_uniform"] - 1
        allocated = [f"The knapsack's own forms, by evidence: predicted cost {share:+.1%} against the uniform split."]
    elif totals["allocator"] == "knapsack":
        allocated = [
            "This is the uniform split, of equal total: the knapsack needs --evidence, which compress measures."
        ]
    return [
        *allocated,
        f"{totals['method']} on {totals['model']}: {totals['bits_per_weight']:.4f} bits per weight over "
        f"{totals['weights']:,} weights in {totals['linears']} linears, {totals['payload_bytes']:,} bytes.",
        f"{totals['coverage']['told']}.",
        *_tables(totals),
        f"Whole model: {_size(totals['model_bytes'])} instead of {_size(totals['dense_model_bytes'])} ({-size:+.1%}).",
        f"A token costs {totals['sign_additions']:,} sign additions and {totals['multiplications']:,} multiplications "
        f"in these linears; dense: {totals['dense_multiply_additions']:,} multiply-adds.",
        f"Peak memory of the compression, estimated: {_size(totals['memory_bytes'])}.",
        f"Multiply-adds of the compression, estimated: fits {_count(totals['fit_multiply_additions'])} (a linear's are "
        f"in the last column), the allocator's evidence {_count(totals['evidence_multiply_additions'])}, training end "
        f"to end {_count(totals['training_multiply_additions'])}.",
    ]


def _tables(totals: dict[str, Any]) -> list[str]:
    """Return what embedding and head take, if they are rounded."""
    now, dense = totals["table_bytes"], totals["dense_table_bytes"]
    return [f"Embedding and head: {_size(now)} instead of {_size(dense)}."] if now != dense else []


def _table(linears: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each kind of linear: alike in leaf name, shape and form."""
    table = Table("linear", "count", "shape", "form", "ranks", "bits", "bytes", "fit")
    rows: dict[tuple[str, ...], int] = {}
    for row in linears:
        ranks = "x".join(str(rank) for rank in row["ranks"]) if row["ranks"] else "-"
        shape = "x".join(str(length) for length in row["shape"])
        leaf = str(row["linear"]).rpartition(".")[2]
        fit = _count(row["fit_multiply_additions"])
        key = (leaf, shape, str(row["node"]), ranks, f"{row['bits_per_weight']:.4f}", f"{row['bytes']:,}", fit)
        rows[key] = rows.get(key, 0) + 1
    for (leaf, *rest), count in rows.items():
        shape, *others = rest
        table.add_row(leaf, str(count), shape, *others)
    return table


def _count(multiplications: int | None) -> str:
    """Return a number of operations in the largest unit below it."""
    if multiplications is None:
        return "no formula"
    for power, unit in ((15, " P"), (12, " T"), (9, " G"), (6, " M")):
        if multiplications >= 10**power:
            return f"{multiplications / 10**power:.3g}{unit}"
    return str(multiplications)


def _size(count: int | float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"
