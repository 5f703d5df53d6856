"""The trainings of one block inside the walk, against the dense block's output on the dense prefix's inputs.

    rest     before a turn: what is still dense takes up the error of what is compressed already
    codes    after each linear, or once at the end: codes and scales of what was compressed, then frozen

The student's inputs come from the compressed prefix. As in DBF (Boza and Macko 2025, arXiv:2505.11076) and NanoQuant
(Chong et al. 2026, arXiv:2602.06694); there the rest is trained with the norms frozen, here they may move as well.
"""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liptt_cli.algebra.objectives.base import Objective, Trace
from liptt_cli.calibration.walk import Visit
from liptt_cli.catalogue import objective_of
from liptt_cli.errors import ConfigError, Fault
from liptt_cli.formats.around import matrix_of
from liptt_cli.formats.base import Stored
from liptt_cli.formats.dense import Dense
from liptt_cli.layers.surgery import get_module, replace_module, thawed, trained_outside
from liptt_cli.layers.trainable import TrainableLinear, thaw
from liptt_cli.menu.tuning import LatentOptions, Tuning, weighs_by_gradient
from liptt_cli.models.blocks import Site
from liptt_cli.stages.job import Job
from liptt_cli.stages.turns import alike
from liptt_cli.tuning import tune
from liptt_cli.tuning_loop import Course, Lesson

_FIXED = LatentOptions(kind="none")


@dataclass
class BlockTuning:
    """One block in the walk: what is compressed of it by name, with the sources, and what its trainings changed."""

    job: Job
    visit: Visit
    values: dict[str, Stored] = field(default_factory=dict)
    sources: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    changed: dict[str, Tensor] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    _dense: nn.Module | None = None

    def __post_init__(self) -> None:
        """Keep the dense block if a training's objective runs it."""
        options = self.job.config.binarize
        if any("block" in each.needs for tuning in (options.rest, options.codes) for each in _objectives(tuning)):
            self._dense = copy.deepcopy(self.visit.block)

    def linear(self, site: Site) -> nn.Linear:
        """Return a linear that is still dense."""
        found = get_module(self.visit.block, self._path(site.name))
        if not isinstance(found, nn.Linear):
            raise TypeError(f"{site.name} is a {type(found).__name__}, and was a linear when the model was described")
        return found

    def swap(self, site: Site, value: Stored, sources: tuple[Tensor, ...] | None) -> None:
        """Put a compressed linear, fixed, in the place of the dense one; and train it now if that is its turn."""
        self.values[site.name] = value
        if sources is not None:
            self.sources[site.name] = sources
        self._fix([site.name])
        if self.trains_linears:
            self._train_codes([site.name])

    def train_rest(self, turn: Sequence[Site]) -> bool:
        """Train what is still dense of the block before a turn, if that is asked for; say whether it was.

        Before anything is compressed there is no error to take up, and nothing is trained.
        """
        options = self.job.config.binarize.rest
        asked = options.before == "all" or any(site.role in options.before for site in turn)
        if not options.trains or not asked or not (self.values or self._errs):
            return False
        linears = {self._path(site.name): self.linear(site) for site in self._sites if site.name not in self.values}
        dense = {path: Dense(linear.weight.detach().float(), "float32") for path, linear in linears.items()}
        modules = thawed(self.visit.block, dense, tuning=options)
        self._train(options, told={"trained": "rest", "before": [site.name for site in turn]})
        for path, module in modules.items():
            tuned = matrix_of(module.freeze()).dense().to(linears[path].weight.dtype)
            linears[path].weight = nn.Parameter(tuned, requires_grad=False)
            replace_module(self.visit.block, path, linears[path])
        return True

    def train_block(self) -> None:
        """Train all that was compressed of the block, if that is asked for at its end."""
        if self.values and self.job.config.binarize.codes.when == "block":
            self._train_codes(list(self.values))

    @property
    def trains_linears(self) -> bool:
        """Say whether something in the block trains behind each linear."""
        codes = self.job.config.binarize.codes
        return codes.trains and codes.when == "linear"

    @property
    def unmoved(self) -> int:
        """The last group of linears whose input no training moves: the first has only norms before it."""
        options = self.job.config.binarize
        return -1 if any(each.trains and "norms" in each.train for each in (options.rest, options.codes)) else 0

    @property
    def has_rest_tuned(self) -> bool:
        """Say whether what is still dense is no longer what the model holds."""
        return any(record["trained"] == "rest" for record in self.records)

    def _train_codes(self, names: Collection[str]) -> None:
        options = self.job.config.binarize.codes
        if not options.trains:
            return
        finished = [name for name in self.values if name not in names]
        if options.finished_scales:
            self._fix(finished, train=["scales"])
        inside = self._inside({name: self.values[name] for name in names})
        thawed(self.visit.block, inside, tuning=options, sources=self._inside(self.sources))
        flip_share = self._train(options, told={"trained": "codes", "linears": list(names)})
        self.records[-1]["flip_share"] = flip_share
        for name in self.values:
            module = get_module(self.visit.block, self._path(name))
            if isinstance(module, TrainableLinear) and any(module.groups().values()):
                self.values[name] = module.freeze()
        if options.when == "linear":
            self._fix(list(self.values))

    def _train(self, options: Tuning, *, told: dict[str, Any]) -> float | None:
        number = self.visit.number
        course = Course(options, _objectives(options), self.job.config.seed + number)
        history = tune(self._lesson(weighted=weighs_by_gradient(options)), course=course)
        prefix = self.job.structure.block_name(number)
        self.changed |= trained_outside(self.visit.block, self._paths, prefix=f"{prefix}.")
        first, last = history.records[0].loss, history.records[-1].loss
        self.records.append({"block": number, **told, "steps": len(history.records), "first": first, "last": last})
        self.job.run.event("block tuned", **self.records[-1])
        return history.flip_share

    def _lesson(self, *, weighted: bool) -> Lesson:
        visit, run = self.visit, self.visit.run.on
        clean, prefix, target = visit.clean, visit.prefix, visit.target
        if clean is None or prefix is None or target is None:
            raise ValueError("a block is tuned on hidden states, but this walk has none")
        dense, weights = self._dense, {0: self._output_weights} if weighted else {}

        def student(index: Tensor) -> Trace:
            hidden = prefix[index]
            return Trace(hidden={-1: hidden, 0: run(visit.block, hidden)}, block=lambda _, h: run(visit.block, h))

        def teacher(index: Tensor) -> Trace:
            block = None if dense is None else lambda _, h: run(dense, h)
            return Trace(hidden={-1: clean[index], 0: target[index]}, block=block, weights=weights)

        return Lesson(visit.block, len(prefix), student, teacher)

    @cached_property
    def _output_weights(self) -> Float[Tensor, " width"]:
        """The squared gradients at the block's output: those of its last linear into the residual stream.

        Where that is an expert's, the mean over the experts, since each sees its own tokens only.
        """
        last = ([site for site in self._sites if site.role == "down"] or self._sites)[-1]
        sites = [site for group in alike(self.job.structure, last) for site in group if site.role == last.role]
        found = torch.stack([self.job.gradient_squares[site.name] for site in sites]).mean(0)
        if self.visit.target is not None and len(found) != self.visit.target.shape[-1]:
            message = f"weights: fisher needs the last linear into the residual stream, but {last.name} is not it"
            raise ConfigError(Fault("load.skip", f"{message}; compress all linears of a block, or set weights: none"))
        return found

    @cached_property
    def _errs(self) -> bool:
        """Whether what enters the block differs from what would enter it in the dense model."""
        clean, prefix = self.visit.clean, self.visit.prefix
        return clean is not None and prefix is not None and not torch.equal(clean, prefix)

    @cached_property
    def _sites(self) -> list[Site]:
        return [site for site in self.job.structure.sites if site.block == self.visit.number]

    @cached_property
    def _paths(self) -> list[str]:
        return [self._path(site.name) for site in self._sites]

    def _fix(self, names: Collection[str], *, train: Collection[str] = ()) -> None:
        for name in names:
            path = self._path(name)
            bias = getattr(get_module(self.visit.block, path), "bias", None)
            replace_module(self.visit.block, path, thaw(self.values[name], options=_FIXED, train=train, bias=bias))

    def _path(self, name: str) -> str:
        return name.removeprefix(f"{self.job.structure.block_name(self.visit.number)}.")

    def _inside(self, named: dict[str, Any]) -> dict[str, Any]:
        return {self._path(name): each for name, each in named.items()}


def _objectives(options: Tuning) -> list[Objective]:
    return [objective_of(each) for each in options.objectives] if options.trains else []
