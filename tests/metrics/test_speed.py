"""Speed told so that it can be believed: rounds, medians, ratios by round, the floor, the memory of a process."""

import subprocess
import sys

import pytest
import torch

from liptt_cli.metrics.speed import (
    MemoryFloor,
    Round,
    Spread,
    floor_share,
    process_memory,
    ratios,
    seconds_by_dtype,
    timed_round,
)


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is half as fast in the second round slows both: the ratio stays."""
    assert ratios([8.0, 4.0, 8.0], [2.0, 1.0, 2.0]) == Spread(4.0, 4.0, 4.0)
    with pytest.raises(ValueError, match="shorter"):
        ratios([8.0, 4.0], [2.0])


def test_a_round_counts_the_first_token_with_the_prompt() -> None:
    calls: list[object] = []

    def prefill(ids: list[int]) -> int:
        calls.append(ids)
        return 5

    def step(token: int) -> int:
        calls.append(token)
        return token + 1

    found, tokens = timed_round(prefill, step, prompt=[1, 2, 3], new_tokens=4)
    assert calls == [[1, 2, 3], 5, 6, 7]
    assert tokens == [5, 6, 7, 8]
    assert (found.prompt_tokens, found.steps) == (3, 3)
    assert found.prefill_seconds > 0
    assert found.decode_seconds > 0


def test_rates_are_tokens_over_seconds() -> None:
    found = Round(
        128,
        prefill_seconds=0.5,
        steps=10,
        decode_seconds=0.1,
        prefill_processor_seconds=0.5,
        decode_processor_seconds=0.1,
    )
    assert found.prefill_tokens_per_second == 256
    assert found.decode_tokens_per_second == pytest.approx(100)


def test_the_share_of_the_floor_is_one_at_the_floor() -> None:
    assert floor_share(bytes_per_token=2e6, seconds_per_token=1e-3, floor_bytes_per_second=2e9) == pytest.approx(1.0)
    assert floor_share(bytes_per_token=2e6, seconds_per_token=4e-3, floor_bytes_per_second=2e9) == pytest.approx(0.25)


def test_the_floor_of_a_machine_is_between_slow_and_impossible() -> None:
    assert 1e8 < MemoryFloor(16 * 2**20).bytes_per_second() < 1e13


def test_both_dtypes_are_tried_and_the_threads_stay() -> None:
    found = seconds_by_dtype(rows=64, columns=32, prompt_tokens=4, new_tokens=2, threads=1)
    assert set(found) == {"float32", "bfloat16"}
    assert all(seconds > 0 for seconds in found.values())
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a program is told by /proc")
def test_the_peak_is_that_of_the_program_not_of_the_one_that_started_it() -> None:
    hundred = bytearray(100 * 2**20)
    found = process_memory()
    assert found["peak_bytes"] >= found["resident_bytes"] > len(hundred)  # type: ignore[operator]
    told = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) * 1024 < len(hundred)
