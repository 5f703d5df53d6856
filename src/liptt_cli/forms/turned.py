"""The form of a weight that is stored in other coordinates: a turn on its outputs, one on its inputs, or both.

    W = L^T inner R,      L and R products of a few cheap square steps, told from the weight to the inner matrix

    signs        -1 or +1 for each channel, a bit each
    scale        a number for each channel, float16
    permutation  the channels in another order, ceil(log2 n) bits each
    hadamard     the orthonormal Walsh-Hadamard matrix on runs of `block` channels: nothing is stored
    haar         `levels` levels of the orthonormal Haar wavelet on runs of `block` channels: nothing is stored

A wavelet's runs end with the channels: the last one may be shorter.
"""

from dataclasses import dataclass
from typing import Literal

from liptt_cli.errors import ShapeError
from liptt_cli.forms.base import Form, Operations, Section

StepKind = Literal["signs", "scale", "permutation", "hadamard", "haar"]
STEPS: tuple[StepKind, ...] = ("signs", "scale", "permutation", "hadamard", "haar")


@dataclass(frozen=True)
class StepForm:
    """One square factor of a turn; `block` and `levels` are those of the fast transforms."""

    kind: StepKind
    block: int = 0
    levels: int = 0

    def section(self, channels: int) -> Section | None:
        """Return what is stored for so many channels, None if nothing is."""
        if self.kind == "scale":
            return Section("scale", "float16", (channels,))
        if self.kind == "signs":
            return Section("signs", "index", (channels,), 1)
        if self.kind == "permutation":
            return Section("order", "index", (channels,), max(1, (channels - 1).bit_length()))
        return None

    def operations(self, channels: int) -> Operations:
        """Return the cost of one vector: an order costs none, butterflies their additions and their scaling."""
        if self.kind == "signs":
            return Operations(channels, 0)
        if self.kind == "scale":
            return Operations(0, channels)
        if self.kind == "hadamard":
            return Operations(channels * (self.block.bit_length() - 1), channels)
        touched = sum(channels >> level for level in range(self.levels))
        return Operations(touched, touched)

    def to_json(self) -> dict[str, object]:
        """Return the step as JSON."""
        return {
            name: value
            for name, value in (("kind", self.kind), ("block", self.block), ("levels", self.levels))
            if value
        }


@dataclass(frozen=True)
class TurnedForm:
    """A form between two turns, each possibly of no step."""

    inner: Form
    left: tuple[StepForm, ...] = ()
    right: tuple[StepForm, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Return (out, in)."""
        return self.inner.shape

    def steps(self) -> tuple[tuple[str, StepForm, int], ...]:
        """Return each step with its place in the tree and its number of channels."""
        sides = (("left", self.left, self.shape[0]), ("right", self.right, self.shape[1]))
        return tuple((f"{side}.{k}", step, n) for side, steps, n in sides for k, step in enumerate(steps))

    def sections(self) -> tuple[Section, ...]:
        """Return the inner sections, then those of the steps."""
        found = [section.inside("inner") for section in self.inner.sections()]
        found += [s.inside(place) for place, step, n in self.steps() if (s := step.section(n)) is not None]
        return tuple(found)

    def operations(self) -> Operations:
        """Return the cost of the inner form and of both turns."""
        return sum((step.operations(n) for _, step, n in self.steps()), self.inner.operations())

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {
            "node": "turned",
            "shape": list(self.shape),
            "inner": self.inner.to_json(),
            "left": [step.to_json() for step in self.left],
            "right": [step.to_json() for step in self.right],
        }


def hadamard_block(channels: int, *, block: int | None) -> int:
    """Return the run of a Walsh-Hadamard step: the one named, or the largest power of two that divides the channels.

    Raises:
        ShapeError: if the one named is no power of two that does, or there is none above 1.
    """
    largest = channels & -channels
    chosen = largest if block is None else block
    if chosen < 2 or chosen & (chosen - 1) or channels % chosen:
        raise ShapeError(
            f"a Hadamard transform on runs of {chosen} does not fit {channels} channels; the runs are a power of two "
            f"that divides them, {largest} at most"
        )
    return chosen


def check_haar(channels: int, *, block: int, levels: int) -> None:
    """Refuse a wavelet that does not fit.

    Raises:
        ShapeError: if a run, or the shorter last one, does not divide into so many levels.
    """
    part = 1 << levels
    for run in (min(block, channels), channels % block):
        if run % part:
            raise ShapeError(
                f"{levels} levels of the Haar wavelet do not fit a run of {run} of {channels} channels, which must be "
                f"a multiple of {part}"
            )
