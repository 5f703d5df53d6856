"""`liptt eval`: a model's perplexity and harness tasks, beside a reference if one is named, with gates for CI."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from liptt_cli.cli import screen
from liptt_cli.cli.bench import Dtype
from liptt_cli.cli.efficiency import Efficiency, measure_efficiency
from liptt_cli.cli.evaluate_tables import section_table, tables
from liptt_cli.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from liptt_cli.evaluation.compare import Difference
    from liptt_cli.evaluation.evaluate import Material, Request
    from liptt_cli.evaluation.gates import Gate
    from liptt_cli.evaluation.results import Evaluation
    from liptt_cli.evaluation.suites import Section
    from liptt_cli.models.hub import Source, Tokenizer

    _Found: TypeAlias = tuple[Source, Tokenizer]

_LONGEST_WINDOW = 2048


def evaluate_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run, exported or Hugging Face directory, or hub id.")],
    perplexity: Annotated[str, typer.Option("--perplexity", metavar="CORPUS,..", help="Corpora.")] = "",
    tasks: Annotated[str, typer.Option("--tasks", metavar="TASK,..", help="Tasks, or YAML files of tasks.")] = "",
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAME,..", help="knowledge, alignment, efficiency, or a YAML file.")
    ] = "",
    suite_tasks: Annotated[
        Path | None,
        typer.Option("--suite-tasks", metavar="DIR", help="Task files: a suite's offline tasks are taken from there."),
    ] = None,
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
    """Measure a model: perplexity on corpora, tasks of the lm-evaluation-harness, and suites of them.

    Corpora: stdlib, self (sampled from the model), wikitext2, c4, or a .txt or .jsonl file, also with .gz.
    Tasks: names of the harness, stdlib_cloze, or YAML files. Several are separated by commas.
    Suites: sections of tasks with means, for gates such as 'reasoning.mean<-2%'; efficiency is size, memory, speed.
    A disturbance (--activation-bits, --input-noise) is the same for MODEL and for --against.

    Example: liptt eval runs/tiny --perplexity stdlib --against DENSE --fail-if 'perplexity>+5%'

    Example: liptt eval runs/tiny --suite knowledge,efficiency --against DENSE --limit 200
    """
    from liptt_cli.evaluation.evaluate import Request, preflight
    from liptt_cli.evaluation.gates import read_gates
    from liptt_cli.evaluation.harness import TaskSettings
    from liptt_cli.evaluation.perturbation import Perturbation
    from liptt_cli.evaluation.suites import read_sections, shots_of

    corpora, names, suites = _listed(perplexity), _listed(tasks), _listed(suite)
    _refuse_nothing([*corpora, *names, *suites], suites, suite_tasks)
    settings = TaskSettings(data_root, None, limit, batch_size, seed)
    sections = read_sections(suites, settings, folder=suite_tasks)
    judged = [*names, *(section.name for section in sections)]
    gates = read_gates(fail_if or [], against=against is not None, corpora=corpora, tasks=judged)
    request = Request(
        corpora,
        tuple(dict.fromkeys([*names, *(task.spec for section in sections for task in section.tasks)])),
        stride=stride,
        windows=windows,
        batch_windows=batch_size,
        settings=replace(settings, shots=shots_of(sections)),
        perturbation=Perturbation(activation_bits, input_noise),
    )
    preflight(request)
    job = _Job(request, window_tokens, dtype, trust_remote_code)
    candidate, dense = job.found(model, revision), None if against is None else job.found(against)
    reference = None if dense is None else job.measured(dense)
    outcome = _Outcome(job.measured(candidate), reference, sections)
    if any(section.measures for section in sections):
        outcome.efficiency = measure_efficiency(
            model, against, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code
        )
    outcome.tell(gates, as_json=as_json)


def _refuse_nothing(measured: "Sequence[str]", suites: "Sequence[str]", suite_tasks: Path | None) -> None:
    if not measured:
        raise ConfigError(
            "nothing to measure: give --perplexity CORPUS, --tasks TASK or --suite NAME, such as --perplexity stdlib"
        )
    if suite_tasks is not None and not suites:
        raise ConfigError("--suite-tasks: has the tasks of a suite, and none is named; add --suite knowledge")


@dataclass
class _Outcome:
    """What was measured of both models, and the sections that it is told in."""

    candidate: "Evaluation"
    reference: "Evaluation | None"
    sections: "Sequence[Section]"
    efficiency: Efficiency | None = None

    def tell(self, gates: "Sequence[Gate]", *, as_json: bool) -> None:
        """Print the numbers, then fail if a gate did."""
        from liptt_cli.evaluation.compare import compare
        from liptt_cli.evaluation.gates import judge, require_passed

        candidate, reference = self._whole()
        differences = [] if reference is None else compare(candidate, reference)
        verdicts = judge(gates, candidate, reference)
        told = [self._section(section, candidate, differences) for section in self.sections]
        if as_json:
            document = {**candidate.to_json(), "gates": [verdict.to_json() for verdict in verdicts], "suites": told}
            if self.efficiency is not None:
                document["bench"] = self.efficiency.comparison.to_json()
            if reference is not None:
                document["against"] = reference.to_json()
                document["differences"] = [difference.to_json() for difference in differences]
            screen.emit_json(document)
        else:
            in_suites = {task.name for section in self.sections for task in section.tasks}
            plain = [name for name in candidate.asked() if name not in in_suites]
            shown = [section_table(each, candidate) for each in told]
            for table in (*tables(candidate, differences, tasks=plain), *shown):
                screen.emit(table)
        require_passed(verdicts)

    def _whole(self) -> "tuple[Evaluation, Evaluation | None]":
        """Return both evaluations with the numbers of all sections."""
        from liptt_cli.evaluation.suites import with_means

        candidate = with_means(self.candidate, self.sections)
        reference = None if self.reference is None else with_means(self.reference, self.sections)
        if self.efficiency is None:
            return candidate, reference
        measured = self.efficiency.sections(self.sections, self.efficiency.ours)
        candidate = replace(candidate, sections=candidate.sections | measured)
        if reference is not None and self.efficiency.dense is not None:
            measured = self.efficiency.sections(self.sections, self.efficiency.dense)
            reference = replace(reference, sections=reference.sections | measured)
        return candidate, reference

    def _section(self, section: "Section", found: "Evaluation", differences: "Sequence[Difference]") -> dict[str, Any]:
        from liptt_cli.evaluation.suites import section_json

        if section.measures and self.efficiency is not None:
            return self.efficiency.to_json(section)
        return section_json(section, found, differences)


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
        from liptt_cli.evaluation.results import Evaluation
        from liptt_cli.evaluation.steps import Twentieths
        from liptt_cli.models import hub
        from liptt_cli.models.shards import Shards

        if not self._request.perplexity and not self._request.tasks:
            return Evaluation({}, {}, {}, self._request.to_json(), 0.0)
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
