"""How fast something runs on this machine, told so that it can be believed.

Seconds are those of the clock on the wall; the processor's seconds stand beside them, so that a machine that was busy
with something else shows. Everything is measured in rounds that take turns, and told as the median with the quartiles
around it. A comparison is the median of the ratios within each round, never the ratio of two medians of other minutes.

    share of the memory floor = (bytes read a token / bytes that the machine reads a second) / seconds a token
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

import torch

FLOOR_BYTES = 512 * 2**20
FLOOR_WORDS = "a float32 tensor of 512 MiB summed by torch with the same threads, the best of three sums in each round"
_SUMS = 3
_PROBE_BYTES = 64 * 2**20
_PROBE_TURNS = 7


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)

    def to_json(self) -> dict[str, float]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Round:
    """One prompt read and some tokens made."""

    prompt_tokens: int
    prefill_seconds: float
    steps: int
    decode_seconds: float
    prefill_processor_seconds: float
    decode_processor_seconds: float

    @property
    def prefill_tokens_per_second(self) -> float:
        """Return how fast the prompt was read."""
        return self.prompt_tokens / self.prefill_seconds

    @property
    def decode_tokens_per_second(self) -> float:
        """Return how fast tokens came behind the first one."""
        return self.steps / self.decode_seconds


def timed_round(
    prefill: Callable[[list[int]], int], step: Callable[[int], int], *, prompt: list[int], new_tokens: int
) -> tuple[Round, list[int]]:
    """Run one round, and return it with the tokens made.

    Args:
        prefill: reads a prompt and returns the likeliest token.
        step: reads one token and returns the likeliest that follows.
        prompt: the tokens to read.
        new_tokens: how many to make, at least two; the first comes with the prompt.
    """
    began = _clocks()
    tokens = [prefill(prompt)]
    first = _clocks()
    while len(tokens) < new_tokens:
        tokens.append(step(tokens[-1]))
    ended = _clocks()
    return Round(
        len(prompt),
        prefill_seconds=first[0] - began[0],
        steps=new_tokens - 1,
        decode_seconds=ended[0] - first[0],
        prefill_processor_seconds=first[1] - began[1],
        decode_processor_seconds=ended[1] - first[1],
    ), tokens


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return how much larger our numbers are than theirs of the same round."""
    return Spread.of([one / other for one, other in zip(ours, theirs, strict=True)])


class MemoryFloor:
    """How fast this machine reads memory: nothing that reads its weights once a token can be faster."""

    def __init__(self, size_bytes: int = FLOOR_BYTES) -> None:
        """Take the memory."""
        self._numbers = torch.ones(size_bytes // 4)

    def bytes_per_second(self) -> float:
        """Sum the tensor some times and return the best rate."""
        best = float("inf")
        for _ in range(_SUMS):
            began = time.perf_counter()
            self._numbers.sum()
            best = min(best, time.perf_counter() - began)
        return self._numbers.nbytes / best


def seconds_by_dtype(*, rows: int, columns: int, prompt_tokens: int, new_tokens: int, threads: int) -> dict[str, float]:
    """Return how long a prompt and new tokens take in one linear, by dtype, its weights coming from memory.

    Shortly measured; told for choosing a dtype, not as a result.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return {
            name: _linear_seconds(rows, columns, (prompt_tokens, new_tokens), dtype)
            for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        }
    finally:
        torch.set_num_threads(before)


def floor_share(*, bytes_per_token: float, seconds_per_token: float, floor_bytes_per_second: float) -> float:
    """Return how near a token comes to the time that only reading its bytes would take, in 0..1."""
    return bytes_per_token / floor_bytes_per_second / seconds_per_token


def process_memory() -> dict[str, int | None]:
    """Return `peak_bytes` and `resident_bytes`: the most that this process has held, and what it holds; None: untold.

    On Linux by /proc, since the peak of `getrusage` is inherited from the process that started this one.
    """
    file = Path("/proc/self/status")
    if file.is_file():
        pairs = dict(line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
        peak, resident = (int(pairs[name].split()[0]) * 1024 for name in ("VmHWM", "VmRSS"))
        return {"peak_bytes": peak, "resident_bytes": resident}
    peak_here = None
    if sys.platform == "darwin":
        import resource

        peak_here = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {"peak_bytes": peak_here, "resident_bytes": None}


def _linear_seconds(rows: int, columns: int, tokens: tuple[int, int], dtype: torch.dtype) -> float:
    copies = max(1, -(-_PROBE_BYTES // (rows * columns * dtype.itemsize)))
    weights = [torch.full((rows, columns), 0.01, dtype=dtype) for _ in range(copies)]

    def seconds(batch: int) -> float:
        x = torch.ones(batch, columns, dtype=dtype)
        found = []
        for turn in range(_PROBE_TURNS):
            began = time.perf_counter()
            torch.nn.functional.linear(x, weights[turn % copies])
            found.append(time.perf_counter() - began)
        return median(found)

    with torch.inference_mode():
        return seconds(tokens[0]) + tokens[1] * seconds(1)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
