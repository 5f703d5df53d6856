"""`liptt bench`: how fast a model makes tokens here, beside the dense one and llama.cpp, in one run."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich import box
from rich.table import Table

from liptt_cli.cli import screen
from liptt_cli.errors import ConfigError, Fault

if TYPE_CHECKING:
    from liptt_cli.decoding.comparison import Comparison, Measured
    from liptt_cli.decoding.contestant import Contestant
    from liptt_cli.models.hub import Source

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]


def bench_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run, exported or Hugging Face directory, or hub id.")],
    against: Annotated[
        str | None, typer.Option("--against", metavar="DENSE", help="Default: what MODEL was made from.")
    ] = None,
    prompt_tokens: Annotated[int, typer.Option("--prompt-tokens", min=1, help="Read at once in each round.")] = 128,
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=2, help="Made one by one in each round.")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="In which the engines take turns.")] = 5,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: torch's own number.")] = None,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Of MODEL's computation; auto: as generate.")] = "auto",
    peers: Annotated[bool, typer.Option("--peers", help="llama.cpp too: same shapes, weights by chance.")] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of MODEL.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Measure decode and prefill speed, memory and bytes read, with the dense model beside it in the same run.

    Every engine has a process of its own, and they take turns; peak memory is that process's, loading included.
    Dense runs through transformers in the dtype that is quicker here. The prompt is tokens by chance.

    Example: liptt bench runs/tiny --prompt-tokens 64 --new-tokens 32
    """
    job = Bench(model, prompt_tokens, new_tokens, _threads(threads), trust_remote_code)
    with tempfile.TemporaryDirectory(prefix="liptt-bench-") as folder:
        contestants = [job.candidate(dtype), *job.dense(against), *(job.peers(Path(folder)) if peers else ())]
        found = job.run(contestants, rounds=rounds)
    if as_json:
        screen.emit_json({"model": model, "threads": job.threads, "notes": job.notes, **found.to_json()})
        return
    screen.emit(_table(found, job))
    screen.emit("\n".join(_words(found, job)))


@dataclass
class Bench:
    """The engines to be compared, and the comparison; what could not be had is noted and said."""

    model: str
    prompt_tokens: int
    new_tokens: int
    threads: int
    trust_remote_code: bool
    notes: list[str] = field(default_factory=list)
    revision: str | None = None

    def __post_init__(self) -> None:
        """Find the model, and refuse more tokens than it has positions."""
        from liptt_cli.models import hub

        self.source = hub.locate(self.model, revision=self.revision)
        self.config: Any = hub.read_config(self.source, self.trust_remote_code)
        longest = getattr(self.config, "max_position_embeddings", None)
        if longest is not None and self._capacity > longest:
            raise ConfigError(
                Fault(
                    "--new-tokens",
                    f"{self.prompt_tokens} tokens of prompt and {self.new_tokens} new ones are more than the model's "
                    f"{longest} positions; give fewer of either",
                )
            )

    @property
    def _capacity(self) -> int:
        return self.prompt_tokens + self.new_tokens

    def run(self, contestants: "Sequence[Contestant]", *, rounds: int) -> "Comparison":
        """Let the engines take turns, and return what came of them."""
        from liptt_cli.decoding.comparison import Plan, compare

        vocabulary = int(self.config.get_text_config().vocab_size)
        plan = Plan(self.prompt_tokens, self.new_tokens, rounds, vocabulary=vocabulary)
        with screen.progress() as shown:
            shown.begin("bench", total=plan.steps(len(contestants)))
            return compare(contestants, plan, shown.advance)

    def candidate(self, dtype: Dtype) -> "Contestant":
        """Return the model itself, made quick."""
        import torch

        from liptt_cli.decoding.precision import choose_dtype

        found = choose_dtype(self.source.path, dtype)
        return self._contestant("this model", self.source, "lean", "float32" if found == torch.float32 else "bfloat16")

    def dense(self, against: str | None) -> "list[Contestant]":
        """Return the dense model as transformers runs it, none if it is not named and cannot be found."""
        from liptt_cli.decoding.dense_source import find_dense
        from liptt_cli.metrics.speed import seconds_by_dtype
        from liptt_cli.models import hub

        source = find_dense(self.model, self.source) if against is None else hub.locate(against)
        if source is None and not self._is_packed():
            source = self.source
        if source is None:
            self._note("the dense model that this one was made from is not here; name it with --against to compare")
            return []
        text = self.config.get_text_config()
        seconds = seconds_by_dtype(
            rows=getattr(text, "intermediate_size", 4 * text.hidden_size),
            columns=text.hidden_size,
            prompt_tokens=self.prompt_tokens,
            new_tokens=self.new_tokens,
            threads=self.threads,
        )
        quicker: Any = min(seconds, key=lambda name: seconds[name])
        return [self._contestant("dense", source, "transformers", quicker)]

    def peers(self, folder: Path) -> "list[Contestant]":
        """Return llama.cpp on models of the same shapes, none where it is absent."""
        from liptt_cli.decoding import peer
        from liptt_cli.decoding.contestant import Contestant
        from liptt_cli.decoding.worker import Job

        absent = peer.why_absent()
        if absent is not None:
            self._note(absent)
            return []
        made = []
        for kind, file in peer.write_files(self.config, folder, self._note):
            made.append(Contestant(f"llama.cpp {kind}", Job("llama.cpp", str(file), self.threads, self._capacity)))
        return made

    def _contestant(self, name: str, source: "Source", kind: Any, dtype: Any) -> "Contestant":
        from liptt_cli.decoding.contestant import Contestant
        from liptt_cli.decoding.worker import Job

        job = Job(kind, str(source.path), self.threads, self._capacity, dtype, self.trust_remote_code)
        return Contestant(name, job)

    def _is_packed(self) -> bool:
        return getattr(self.config, "quantization_config", None) is not None

    def _note(self, words: str) -> None:
        self.notes.append(words)
        screen.say(words)


def _threads(wanted: int | None) -> int:
    import torch

    return torch.get_num_threads() if wanted is None else wanted


def _table(found: "Comparison", job: Bench) -> Table:
    title = (
        f"{found.plan.prompt_tokens} tokens of prompt, {found.plan.new_tokens} new ones, medians of "
        f"{found.plan.rounds} rounds in turn, {job.threads} thread{'s' if job.threads > 1 else ''}"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("engine", no_wrap=True)
    for heading in ("decode\ntok/s", "prefill\ntok/s", "first\nms", "peak\nMB", "read\nMB/tok", "of\nfloor"):
        table.add_column(heading, justify="right", no_wrap=True)
    for engine in found.engines:
        table.add_row(*_row(found, engine))
    return table


def _row(found: "Comparison", engine: "Measured") -> list[str]:
    from liptt_cli.metrics.speed import Spread

    peak = engine.facts["peak_bytes"]
    return [
        _title(engine),
        f"{Spread.of(engine.decode).median:.1f}",
        f"{Spread.of(engine.prefill).median:.0f}",
        f"{1000 * Spread.of([each.prefill_seconds for each in engine.rounds]).median:.1f}",
        "-" if peak is None else f"{peak / 1e6:,.0f}",
        f"{engine.bytes_per_token(found.plan.context_tokens) / 1e6:.1f}",
        f"{Spread.of(found.floor_shares(engine)).median:.0%}",
    ]


def _title(engine: "Measured") -> str:
    """Return name, engine and dtype, as far as the name does not tell them."""
    told = (engine.facts[key] for key in ("engine", "dtype"))
    return ", ".join([engine.name, *(each for each in told if each not in engine.name)])


def _words(found: "Comparison", job: Bench) -> list[str]:
    """Return the comparisons, the kernels, the agreement and the floor, a line each."""
    from liptt_cli.metrics.speed import FLOOR_WORDS, Spread, ratios

    first, *others = found.engines
    lines = []
    for other in others:
        decode, prefill = ratios(first.decode, other.decode), ratios(first.prefill, other.prefill)
        lines.append(
            f"{first.name} / {other.name}: decode {_times(decode)}, prefill {_times(prefill)} (median, quartiles)"
        )
    for kernel in first.facts["kernels"]:
        lines.append(f"kernel: {kernel['name']} for {kernel['linears']} linears ({kernel['reason']})")
    if "why_not_lean" in first.facts:
        lines.append(f"through transformers, not by the lean loop: {first.facts['why_not_lean']}")
    if first.agreement is not None:
        told = first.agreement
        lines.append(
            f"against transformers on the torch meaning: {told['agreeing']} of {told['tokens']} tokens the same, "
            f"logits off by {told['relative_difference']:.2g} (relative), {told['largest_difference']:.2g} at most"
        )
    idle = [engine.facts["idle_bytes"] for engine in found.engines]
    if None not in idle:
        lines.append(f"peak MB is the process's; before its model was loaded it held {max(idle) / 1e6:,.0f} at most")
    floor = Spread.of(found.floor_bytes_per_second).median
    lines.append(f"memory floor: {floor / 1e9:.1f} GB/s ({FLOOR_WORDS})")
    return lines + job.notes


def _times(spread: Any) -> str:
    return f"{spread.median:.2f}x ({spread.low:.2f} to {spread.high:.2f})"
