"""A model judged as a request asks: perplexity on corpora, tasks of the harness, and what names their text.

Corpora give their evaluation side. `self` is text sampled from the reference model, or without one from the
model itself. Two models are compared on one `Material`, so that each window is paired with itself.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from liptt_cli.calibration.corpora import read_corpus, sha256_of
from liptt_cli.calibration.windows import Sampling, corpus_windows, sampled_from
from liptt_cli.errors import ConfigError
from liptt_cli.evaluation import stdlib_task
from liptt_cli.evaluation.harness import TaskSettings, require_known, run_tasks
from liptt_cli.evaluation.perturbation import Perturbation, perturbed
from liptt_cli.evaluation.results import Evaluation, TaskScores
from liptt_cli.metrics.perplexity import Perplexity, measure_perplexity, overlapping

Progress = Callable[[str, int, int], None]
_SELF = "self"
_NOT_CALIBRATION = 1_000_003  # added to the seed, so that `self` is not the text that calibration sampled
_SELF_WINDOWS = 64


@dataclass(frozen=True)
class Request:
    """What is measured, on how much text.

    `windows` is a fixed seeded subset of a corpus's windows, None all of them; `self` is 64 windows then.
    `near` is a folder for relative paths, tried after the working directory.
    """

    perplexity: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    window_tokens: int = 2048
    stride: int | None = None
    windows: int | None = None
    batch_windows: int = 8
    settings: TaskSettings = field(default_factory=TaskSettings)
    perturbation: Perturbation = Perturbation()

    def to_json(self) -> dict[str, object]:
        """Return what makes the numbers comparable: no path, no batch."""
        return {
            "window_tokens": self.window_tokens,
            "stride": self.stride or self.window_tokens,
            "windows": self.windows,
            "limit": self.settings.limit,
            "seed": self.settings.seed,
            **self.perturbation.to_json(),
        }


@dataclass(frozen=True)
class Material:
    """The windows of each corpus, as tokens, and the sha256 of its text."""

    windows: dict[str, Tensor]
    sha256: dict[str, str]


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    request: Request,
    *,
    material: Material | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model, disturbed if the request says so; the material is read first unless given.

    Raises:
        ConfigError: if the request does not fit the model, or a task is unknown.
        InputError: if a corpus or a task's data are absent or too short.
        DivergenceError: if the model's nats are not finite.
    """
    start = time.perf_counter()
    material = read_material(model, tokenizer, request, progress) if material is None else material
    with perturbed(model, request.perturbation, seed=request.settings.seed):
        perplexity = _perplexities(model, material, request, progress)
        tasks = _tasks(model, tokenizer, request, progress)
    return Evaluation(perplexity, tasks, material.sha256, request.to_json(), time.perf_counter() - start)


def preflight(request: Request) -> None:
    """Refuse what can be refused before a model is loaded: an absent corpus, an unknown task.

    Raises:
        CorpusError: if a corpus is not there.
        ConfigError: if a task is unknown.
        InputError: if a local task's data are not there.
    """
    for name in request.perplexity:
        if name not in (_SELF, "stdlib"):
            read_corpus(name, side="evaluation", near=request.settings.near)
    require_known([name for name in request.tasks if name != stdlib_task.NAME], request.settings)


def read_material(model: nn.Module, tokenizer: Any, request: Request, progress: Progress | None = None) -> Material:
    """Read all corpora of a request and cut them into windows; sample `self` from the model.

    Raises:
        ConfigError: if the windows do not fit the model or the stride.
        CorpusError: if a corpus is absent or too short.
    """
    _require_fit(model, request)
    windows: dict[str, Tensor] = {}
    sha256: dict[str, str] = {}
    for name in request.perplexity:
        if name == _SELF:
            count = request.windows or _SELF_WINDOWS
            seed = request.settings.seed + _NOT_CALIBRATION
            sampling = Sampling(count, request.window_tokens, seed, request.batch_windows)
            windows[name] = sampled_from(model, tokenizer, sampling, _titled(progress, "sampling from the model"))
            sha256[name] = sha256_of([str(row.tolist()) for row in windows[name]])
        else:
            corpus = read_corpus(name, side="evaluation", near=request.settings.near)
            every = corpus_windows(corpus, tokenizer, window_tokens=request.window_tokens, windows=None, seed=0)
            windows[name] = _chosen(every, request)
            sha256[name] = corpus.sha256
    return Material(windows, sha256)


def _require_fit(model: nn.Module, request: Request) -> None:
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if request.perplexity and longest is not None and request.window_tokens > longest:
        raise ConfigError(
            f"evaluate.window_tokens: {request.window_tokens} is more than the {longest} tokens that the model reads "
            f"at once; set it to at most {longest}."
        )
    if request.window_tokens < 2:
        raise ConfigError(f"evaluate.window_tokens: {request.window_tokens} leaves nothing to predict; set 2 or more.")
    if request.stride is not None and not 1 <= request.stride <= request.window_tokens:
        raise ConfigError(
            f"evaluate.stride: {request.stride} is not between 1 and window_tokens, {request.window_tokens}; beyond it "
            "text would be skipped."
        )
    if request.stride not in (None, request.window_tokens) and _SELF in request.perplexity:
        raise ConfigError("evaluate.stride: windows sampled from the model ('self') do not overlap; leave stride out.")


def _chosen(windows: Tensor, request: Request) -> Tensor:
    """Cut again at the stride, then draw a fixed seeded subset, kept in order."""
    if request.stride is not None and request.stride < request.window_tokens:
        windows = overlapping(windows, stride=request.stride)
    if request.windows is None or request.windows >= len(windows):
        return windows
    generator = torch.Generator().manual_seed(request.settings.seed)
    return windows[torch.randperm(len(windows), generator=generator)[: request.windows].sort().values]


def _perplexities(
    model: nn.Module, material: Material, request: Request, progress: Progress | None
) -> dict[str, Perplexity]:
    perplexity: dict[str, Perplexity] = {}
    for name, windows in material.windows.items():
        found = measure_perplexity(
            model,
            windows,
            stride=request.stride,
            batch_windows=request.batch_windows,
            progress=_titled(progress, f"perplexity on {name}"),
        )
        perplexity[name] = dataclasses.replace(found, corpus=name)
    return perplexity


def _tasks(model: nn.Module, tokenizer: Any, request: Request, progress: Progress | None) -> dict[str, TaskScores]:
    if not request.tasks:
        return {}
    with tempfile.TemporaryDirectory(prefix="liptt-") as folder:
        names = list(request.tasks)
        if stdlib_task.NAME in names:
            written = stdlib_task.write_stdlib_task(Path(folder), seed=request.settings.seed)
            names[names.index(stdlib_task.NAME)] = str(written)
        return run_tasks(model, tokenizer, names, settings=request.settings, progress=_titled(progress, "tasks"))


def _titled(progress: Progress | None, title: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(title, done, total)
