"""What `liptt eval` prints for people: tables of corpora, of tasks, and of the sections of suites."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from liptt_cli.evaluation.compare import Difference
    from liptt_cli.evaluation.results import Evaluation


def tables(found: "Evaluation", differences: "Sequence[Difference]", *, tasks: Sequence[str]) -> list[Table]:
    """Return the tables of corpora and of these tasks, beside the reference if there is one."""
    beside = {difference.name: difference for difference in differences}
    made = [_corpora_table(found, beside)] if found.perplexity else []
    return [*made, _task_table(found, beside, tasks)] if tasks else made


def section_table(told: dict[str, Any], found: "Evaluation") -> Table:
    """Return the table of a section, as its JSON tells it; `found` knows what the model was disturbed by."""
    title = f"{told['suite']}, {told['section']}: {told['title']}"
    return _measured_table(told, title) if "measures" in told else _suite_table(told, title + _under(found))


def _suite_table(told: dict[str, Any], title: str) -> Table:
    beside = any("reference" in task for task in told["tasks"])
    columns = ("chance", "dense", "compressed", "difference") if beside else ("chance", "value")
    table = _table("task", "shots", "metric", *columns, title=title)
    for task in told["tasks"]:
        shots = "-" if task["shots"] is None else str(task["shots"])
        direction = "" if task["higher_is_better"] else " (less is better)"
        chance = "-" if task["chance"] is None else f"{task['chance']:.2f}"
        table.add_row(task["task"], shots, task["metric"] + direction, chance, *_values(task))
    if told["mean"] is not None:
        table.add_section()
        table.add_row("mean", "", "", "", *_values(told["mean"]))
    return table


def _measured_table(told: dict[str, Any], title: str) -> Table:
    beside = any("reference" in found for found in told["measures"].values())
    table = _table("measure", *(("dense", "compressed", "ratio") if beside else ("value",)), title=title)
    for name, found in told["measures"].items():
        values = [_amount(found["reference"])] if beside else []
        table.add_row(name, *values, _amount(found["value"]), *([_spread(found["ratio"])] if beside else []))
    return table


def _values(numbers: dict[str, Any]) -> list[str]:
    """Return a number of the model with its error, behind the reference's and before the difference if it has them."""
    value = _with_error(numbers["value"], numbers["standard_error"])
    if "reference" not in numbers:
        return [value]
    difference = _with_error(numbers["difference"], numbers["difference_standard_error"], sign="+")
    return [f"{numbers['reference']:.4g}", value, difference]


def _amount(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 10_000 else f"{number:.4g}"


def _spread(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "-"
    spread = "" if ratio["low"] == ratio["high"] else f" ({ratio['low']:.2f} to {ratio['high']:.2f})"
    return f"{ratio['median']:.2f}x{spread}"


def _corpora_table(found: "Evaluation", beside: "dict[str, Difference]") -> Table:
    title = f"windows of {found.settings['window_tokens']} tokens, stride {found.settings['stride']}{_under(found)}"
    reference = ("reference", "difference") if beside else ()
    table = _table("corpus", "tokens", "nats/token", "perplexity", *reference, title=title)
    for name, measured in found.perplexity.items():
        nats = _with_error(measured.nats, measured.standard_error)
        row = (Path(name).name, str(measured.tokens), nats, f"{measured.perplexity:.3f}")
        table.add_row(*row, *_beside(beside.get(f"{name}.nats")))
    return table


def _task_table(found: "Evaluation", beside: "dict[str, Difference]", tasks: Sequence[str]) -> Table:
    title = f"kept: (accuracy - chance) / (reference - chance){_under(found)}" if beside else _under(found)[2:] or None
    reference = ("reference", "difference", "kept") if beside else ()
    table = _table("task", "docs", "metric", "value", "chance", *reference, title=title)
    for name in tasks:
        scores = found.tasks[name]
        chance = "" if scores.chance is None else f"{scores.chance:.2f}"
        for metric, value in scores.metrics.items():
            number = _with_error(value, scores.standard_error(metric))
            difference = beside.get(f"{name}.{metric}")
            row = (name, str(len(scores.documents)), metric, number, chance)
            table.add_row(*row, *_beside(difference), *_kept(difference))
    return table


def _under(found: "Evaluation") -> str:
    """Return the disturbance that the model was measured under, behind a comma."""
    from liptt_cli.evaluation.perturbation import Perturbation

    settings: dict[str, Any] = found.settings
    words = Perturbation(settings.get("activation_bits"), settings.get("input_noise", 0.0)).words
    return f", {words}" if words else ""


def _table(*titles: str, title: str | None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(titles):
        table.add_column(heading, overflow="fold", no_wrap=number > 0, min_width=12 if number == 0 else None)
    return table


def _beside(difference: "Difference | None") -> list[str]:
    if difference is None:
        return []
    return [f"{difference.reference:.5g}", _with_error(difference.difference, difference.standard_error, sign="+")]


def _kept(difference: "Difference | None") -> list[str]:
    if difference is None or difference.kept_share is None:
        return []
    return [_with_error(difference.kept_share, difference.kept_standard_error)]


def _with_error(value: float, error: float | None, *, sign: str = "") -> str:
    return f"{value:{sign}.4g}" + ("" if error is None else f"±{error:.2g}")
