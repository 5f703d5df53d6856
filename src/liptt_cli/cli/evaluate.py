"""`liptt eval`: a model's perplexity and harness tasks, beside a reference if one is named, with gates for CI."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich import box
from rich.table import Table

from liptt_cli.cli import screen
from liptt_cli.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from liptt_cli.evaluation.compare import Difference
    from liptt_cli.evaluation.evaluate import Material, Request
    from liptt_cli.evaluation.gates import Gate
    from liptt_cli.evaluation.results import Evaluation
    from liptt_cli.models.hub import Source, Tokenizer

    _Found: TypeAlias = tuple[Source, Tokenizer]

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]
_LONGEST_WINDOW = 2048


def evaluate_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run, exported or Hugging Face directory, or hub id.")],
    perplexity: Annotated[str, typer.Option("--perplexity", metavar="CORPUS,..", help="Corpora.")] = "",
    tasks: Annotated[str, typer.Option("--tasks", metavar="TASK,..", help="Tasks, or YAML files of tasks.")] = "",
    against: Annotated[str | None, typer.Option("--against", metavar="DENSE", help="Model to compare with.")] = None,
    fail_if: Annotated[
        list[str] | None, typer.Option("--fail-if", metavar="EXPR", help="Exit 6 if true; may be repeated.")
    ] = None,
    window_tokens: Annotated[
        int | None, typer.Option("--window-tokens", min=2, help="Default: the model's context, 2048 at most.")
    ] = None,
    stride: Annotated[int | None, typer.Option("--stride", min=1, help="Default: --window-tokens.")] = None,
    windows: Annotated[int | None, typer.Option("--windows", min=1, help="A seeded subset of each corpus.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="A seeded subset of each task.")] = None,
    activation_bits: Annotated[
        int | None, typer.Option("--activation-bits", min=2, max=16, help="Round the inputs of linears, by token.")
    ] = None,
    input_noise: Annotated[
        float, typer.Option("--input-noise", metavar="SHARE", min=0, help="Noise on the embeddings, of their rms.")
    ] = 0.0,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", metavar="DIR", help="Where tasks' data are; default: by the YAML.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of subsets and samples.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Windows or requests at once.")] = 8,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Of computation; auto: by the machine.")] = "auto",
    revision: Annotated[str | None, typer.Option("--revision", help="Of a hub id MODEL.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of MODEL.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Measure a model: perplexity on corpora, and tasks of the lm-evaluation-harness.

    Corpora: stdlib, self (sampled from the model), wikitext2, c4, or a .txt or .jsonl file, also with .gz.
    Tasks: names of the harness, stdlib_cloze, or YAML files. Several are separated by commas.
    A disturbance (--activation-bits, --input-noise) is the same for MODEL and for --against.

    Example: liptt eval runs/tiny --perplexity stdlib --against DENSE --fail-if 'perplexity>+5%'
    """
    from liptt_cli.evaluation.evaluate import Request, preflight
    from liptt_cli.evaluation.gates import read_gates
    from liptt_cli.evaluation.harness import TaskSettings
    from liptt_cli.evaluation.perturbation import Perturbation

    corpora, names = _listed(perplexity), _listed(tasks)
    if not corpora and not names:
        raise ConfigError("nothing to measure: give --perplexity CORPUS or --tasks TASK, such as --perplexity stdlib")
    gates = read_gates(fail_if or [], against=against is not None, corpora=corpora, tasks=names)
    settings = TaskSettings(data_root, None, limit, batch_size, seed)
    request = Request(
        corpora,
        names,
        stride=stride,
        windows=windows,
        batch_windows=batch_size,
        settings=settings,
        perturbation=Perturbation(activation_bits, input_noise),
    )
    preflight(request)
    job = _Job(request, window_tokens, dtype, trust_remote_code)
    candidate, dense = job.found(model, revision), None if against is None else job.found(against)
    reference = None if dense is None else job.measured(dense)
    _tell(job.measured(candidate), reference, gates, as_json=as_json)


def _tell(candidate: "Evaluation", reference: "Evaluation | None", gates: "Sequence[Gate]", *, as_json: bool) -> None:
    """Print the numbers, then fail if a gate did."""
    from liptt_cli.evaluation.compare import compare
    from liptt_cli.evaluation.gates import judge, require_passed

    differences = [] if reference is None else compare(candidate, reference)
    verdicts = judge(gates, candidate, reference)
    if as_json:
        document = {**candidate.to_json(), "gates": [verdict.to_json() for verdict in verdicts]}
        if reference is not None:
            document["against"] = reference.to_json()
            document["differences"] = [difference.to_json() for difference in differences]
        screen.emit_json(document)
    else:
        for table in _tables(candidate, differences):
            screen.emit(table)
    require_passed(verdicts)


class _Job:
    """Models measured one after the other on the same material, each let go before the next is loaded."""

    def __init__(self, request: "Request", window_tokens: int | None, dtype: Dtype, trust_remote_code: bool) -> None:
        self._request = request
        self._window_tokens = window_tokens
        self._dtype = dtype
        self._trust_remote_code = trust_remote_code
        self._vocabulary: dict[str, int] | None = None
        self._material: Material | None = None
        self._compute: torch.dtype | None = None

    def found(self, name: str, revision: str | None = None) -> "_Found":
        """Find a model and its tokenizer; a second one must cut text into the same tokens if corpora are measured."""
        from liptt_cli.models import hub

        source = hub.locate(name, revision=revision)
        tokenizer = hub.load_tokenizer(source)
        vocabulary = tokenizer.get_vocab()
        if self._request.perplexity and self._vocabulary not in (None, vocabulary):
            raise ConfigError("--against: the two models' tokenizers differ, so their nats a token cannot be compared")
        self._vocabulary = vocabulary
        return source, tokenizer

    def measured(self, found: "_Found") -> "Evaluation":
        """Load a model and measure it."""
        import liptt_cli  # noqa: F401  # registers the packed format
        from liptt_cli.evaluation.evaluate import evaluate, read_material
        from liptt_cli.evaluation.steps import Twentieths
        from liptt_cli.models import hub
        from liptt_cli.models.shards import Shards

        source, tokenizer = found
        if self._compute is None:
            shards = Shards(source.path)
            self._compute = hub.compute_dtype(self._dtype, stored=shards.main_dtype(), parameters=shards.parameters())
        model = hub.load_model(source, dtype=self._compute, trust_remote_code=self._trust_remote_code)
        with screen.progress() as shown:
            progress = Twentieths(shown)
            if self._material is None:
                self._request = replace(self._request, window_tokens=self._window_tokens or _context(model))
                self._material = read_material(model, tokenizer, self._request, progress)
            return evaluate(model, tokenizer, self._request, material=self._material, progress=progress)


def _listed(words: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))


def _context(model: Any) -> int:
    longest = getattr(model.config, "max_position_embeddings", None)
    return min(_LONGEST_WINDOW, longest) if longest else _LONGEST_WINDOW


def _tables(found: "Evaluation", differences: "list[Difference]") -> list[Table]:
    beside = {difference.name: difference for difference in differences}
    made = [_corpora_table(found, beside)] if found.perplexity else []
    return [*made, _task_table(found, beside)] if found.tasks else made


def _corpora_table(found: "Evaluation", beside: "dict[str, Difference]") -> Table:
    title = f"windows of {found.settings['window_tokens']} tokens, stride {found.settings['stride']}{_under(found)}"
    reference = ("reference", "difference") if beside else ()
    table = _table("corpus", "tokens", "nats/token", "perplexity", *reference, title=title)
    for name, measured in found.perplexity.items():
        nats = _with_error(measured.nats, measured.standard_error)
        row = (Path(name).name, str(measured.tokens), nats, f"{measured.perplexity:.3f}")
        table.add_row(*row, *_beside(beside.get(f"{name}.nats")))
    return table


def _task_table(found: "Evaluation", beside: "dict[str, Difference]") -> Table:
    title = f"kept: (accuracy - chance) / (reference - chance){_under(found)}" if beside else _under(found)[2:] or None
    reference = ("reference", "difference", "kept") if beside else ()
    table = _table("task", "docs", "metric", "value", "chance", *reference, title=title)
    for name in found.asked():
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
