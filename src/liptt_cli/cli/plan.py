"""`liptt plan`: the price of a run before it is paid, without weights and without torch."""

from typing import Annotated, Any

import typer
from rich.table import Table

from liptt_cli.cli import screen
from liptt_cli.config import LoadedConfig, configs_folder, load_config
from liptt_cli.errors import ConfigError
from liptt_cli.planning.architectures import find_shape
from liptt_cli.planning.plan import Plan, chosen_sites, structure


def plan_command(
    config: Annotated[str, typer.Option("--config", "-c", help="A YAML file, or the name of a shipped configuration.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="stage.key=value; can be given again.", metavar="KEY=VALUE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, a row for each linear.")] = False,
) -> None:
    """Print what a run would cost: bits, bytes, operations and memory, for each linear and in total.

    Example: liptt plan --config llama7b.yaml --set bits_per_weight=0.8
    """
    print_plan(load_config(config, overrides=overrides or []), as_json=as_json)


def print_plan(loaded: LoadedConfig, *, as_json: bool) -> None:
    """Print the plan of a loaded configuration."""
    settings = loaded.config
    if settings.model is None:
        raise ConfigError("model: a method alone has no price; add --set model=DIRECTORY or a hub id")
    model = find_shape(
        settings.model, revision=settings.revision, near=loaded.source_path.parent, configs=configs_folder()
    )
    plan = structure(settings, model, chosen_sites(settings, model))
    totals = _totals(loaded, plan)
    if as_json:
        screen.emit_json({"totals": totals, "linears": plan.rows()})
        return
    screen.emit(_table(plan))
    for line in _sentences(totals):
        screen.emit(line)


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
        "sign_additions": operations.sign_additions,
        "multiplications": operations.multiplications,
        "dense_multiply_additions": plan.weights,
        "memory_bytes": plan.memory_bytes(tokens=calibration.windows * calibration.window_tokens, width=width),
    }


def _sentences(totals: dict[str, Any]) -> list[str]:
    size = 1 - totals["model_bytes"] / totals["dense_model_bytes"]
    return [
        f"{totals['method']} on {totals['model']}: {totals['bits_per_weight']:.4f} bits per weight over "
        f"{totals['weights']:,} weights in {totals['linears']} linears, {totals['payload_bytes']:,} bytes.",
        f"Whole model: {_size(totals['model_bytes'])} instead of {_size(totals['dense_model_bytes'])} ({-size:+.1%}).",
        f"A token costs {totals['sign_additions']:,} sign additions and {totals['multiplications']:,} multiplications "
        f"in these linears; dense: {totals['dense_multiply_additions']:,} multiply-adds.",
        f"Peak memory of the compression, estimated: {_size(totals['memory_bytes'])}.",
    ]


def _table(plan: Plan) -> Table:
    """Return a row for each kind of linear: alike in leaf name, shape and form."""
    table = Table("linear", "count", "shape", "form", "ranks", "bits/weight", "bytes each")
    rows: dict[tuple[str, ...], int] = {}
    for row in plan.rows():
        ranks = "x".join(str(rank) for rank in row["ranks"]) if row["ranks"] else "-"
        shape = "x".join(str(length) for length in row["shape"])
        leaf = str(row["linear"]).rpartition(".")[2]
        key = (leaf, shape, str(row["node"]), ranks, f"{row['bits_per_weight']:.4f}", f"{row['bytes']:,}")
        rows[key] = rows.get(key, 0) + 1
    for (leaf, *rest), count in rows.items():
        shape, *others = rest
        table.add_row(leaf, str(count), shape, *others)
    return table


def _size(count: int | float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"
