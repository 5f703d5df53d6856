"""Quality gates, `--fail-if`: an expression that, if true, fails the command with exit status 6.

    [TARGET.]METRIC  < | > | <= | >=  LIMIT

    perplexity>30              an absolute limit, on every corpus
    perplexity>+5%             5 % above the reference of --against
    nats>+0.1                  0.1 nats above the reference
    acc<-2%                    an accuracy 2 % below the reference's, on every task
    stdlib.perplexity>+5%      on one corpus;  blimp.acc<0.6  on one task
    reasoning.mean<-2%         on one section of a suite;  mean<-2%  on all of them
    peak_bytes>2e9             on what a section measures

A sign makes a limit relative to the reference, and so does a per cent sign. Without a target, `nats` and
`perplexity` mean every corpus, what sections of a suite have means every such section, and any other metric means
every task asked for (a group, not its members).
"""

import operator
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from liptt_cli.errors import ConfigError, GateError
from liptt_cli.evaluation.results import Evaluation, flat

_OPERATORS = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}
_EXPRESSION = re.compile(
    r"\s*(?:(?P<target>.+)\.)?(?P<metric>[A-Za-z_][\w,-]*)\s*(?P<sign><=|>=|<|>)\s*(?P<limit>[+-]?[\d.]+(?:e[+-]?\d+)?)(?P<percent>\s*%)?\s*"
)
_OF_CORPORA = ("nats", "perplexity")
_OF_SECTIONS = "mean"
_EXAMPLES = "Examples: perplexity>+5%, nats>+0.1, perplexity>30, acc<0.4, TASK.acc<-2%, SECTION.mean<-2%."


@dataclass(frozen=True)
class Gate:
    """An expression, read: it fails where `number OPERATOR limit` holds."""

    expression: str
    target: str | None
    metric: str
    operator: str
    limit: float
    percent: bool
    relative: bool

    def concerns(self, name: str, found: Evaluation) -> bool:
        """Tell whether a number of this name, TARGET.METRIC, is judged."""
        target, _, metric = name.rpartition(".")
        if self.target is not None:
            return (target, metric) == (self.target, self.metric)
        judged = found.perplexity if metric in _OF_CORPORA else [*found.asked(), *found.sections]
        return metric == self.metric and target in judged

    def threshold(self, reference: float | None) -> float:
        """Return the limit as a number to compare with."""
        if not self.relative or reference is None:
            return self.limit
        return reference * (1 + self.limit / 100) if self.percent else reference + self.limit


@dataclass(frozen=True)
class Verdict:
    """A gate on one number."""

    expression: str
    name: str
    value: float
    threshold: float
    reference: float | None
    passed: bool

    def to_json(self) -> dict[str, object]:
        """Return all fields."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the failure in a line."""
        beside = "" if self.reference is None else f" (reference {self.reference:.6g})"
        return f"{self.expression}: {self.name} is {self.value:.6g}, the limit {self.threshold:.6g}{beside}"


def read_gates(
    expressions: Sequence[str], *, against: bool, corpora: Sequence[str], tasks: Sequence[str]
) -> list[Gate]:
    """Read expressions before anything is measured.

    Args:
        expressions: as given to --fail-if.
        against: whether there is a reference to be relative to.
        corpora: names of the corpora that will be measured.
        tasks: names of the tasks that will be run, and of a suite's sections.

    Raises:
        ConfigError: for all expressions that are not one, lack a reference, or judge nothing that is measured.
    """
    faults: list[str] = []
    gates: list[Gate] = []
    for expression in expressions:
        gate = _read(expression)
        if gate is None:
            faults.append(f"--fail-if {expression!r}: not a gate of the form [TARGET.]METRIC<LIMIT. {_EXAMPLES}")
        elif gate.relative and not against:
            faults.append(
                f"--fail-if {expression!r}: relative to a reference, but there is none; name one with --against DENSE, "
                "or give an absolute limit without sign and per cent."
            )
        elif fault := _judges_nothing(gate, corpora, tasks):
            faults.append(f"--fail-if {expression!r}: {fault}")
        else:
            gates.append(gate)
    if faults:
        raise ConfigError(*faults)
    return gates


def judge(gates: Sequence[Gate], candidate: Evaluation, reference: Evaluation | None = None) -> list[Verdict]:
    """Return the verdict of each gate on each number it concerns.

    Raises:
        ConfigError: if a gate concerns none of the numbers.
    """
    numbers = flat(candidate)
    beside = flat(reference) if reference is not None else {}
    verdicts: list[Verdict] = []
    for gate in gates:
        names = [name for name in numbers if gate.concerns(name, candidate)]
        if not names or (gate.relative and not set(names) <= set(beside)):
            known = ", ".join(beside if names else numbers)
            raise ConfigError(f"--fail-if {gate.expression!r}: nothing measured has that name; there is {known}.")
        for name in names:
            other = beside[name] if gate.relative else None
            threshold = gate.threshold(other)
            failed = _OPERATORS[gate.operator](numbers[name], threshold)
            verdicts.append(Verdict(gate.expression, name, numbers[name], threshold, other, not failed))
    return verdicts


def require_passed(verdicts: Sequence[Verdict]) -> None:
    """Raise a GateError that lists every failed gate with its numbers, if there is one."""
    failed = [str(verdict) for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError("\n".join([f"{len(failed)} of {len(verdicts)} quality gates failed:", *failed]))


def _read(expression: str) -> Gate | None:
    match = _EXPRESSION.fullmatch(expression)
    if match is None or match["limit"].count(".") > 1 or not any(map(str.isdigit, match["limit"])):
        return None
    percent = match["percent"] is not None
    signed = match["limit"][0] in "+-"
    return Gate(
        expression, match["target"], match["metric"], match["sign"], float(match["limit"]), percent, signed or percent
    )


def _judges_nothing(gate: Gate, corpora: Sequence[str], tasks: Sequence[str]) -> str | None:
    """Return why a gate cannot concern anything; a task's metrics and a group's tasks are known only later."""
    measured = [*corpora, *tasks]
    if gate.target is not None and gate.metric == _OF_SECTIONS and gate.target not in tasks:
        return f"no section {gate.target!r} of a suite is asked for; asked for are {', '.join(measured) or 'none'}."
    if gate.target is not None:
        known = gate.target in corpora or bool(tasks)
        return None if known else f"{gate.target!r} is not measured; measured are {', '.join(measured) or 'none'}."
    if gate.metric in _OF_CORPORA:
        return None if corpora else f"{gate.metric} is of corpora, and none is measured; add --perplexity CORPUS."
    return None if tasks else f"{gate.metric} is of tasks, and none is run; add --tasks TASK or --suite NAME."
