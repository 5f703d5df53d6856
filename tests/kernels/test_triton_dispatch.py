"""Which kernel is chosen on a device that is no processor, and the reasons; neither a GPU nor Triton is needed."""

from collections.abc import Iterator

import pytest
import torch

from liptt_cli.errors import ConfigError
from liptt_cli.forms.leaves import DenseForm, GridForm
from liptt_cli.kernels import dispatch
from liptt_cli.kernels.dispatch import TORCH, TRITON, TRITON_FAST, VARIABLE, Route, chosen, describe, exact

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def ampere(monkeypatch: Patch) -> Iterator[Patch]:
    """Go on as if there were a GPU of compute capability 8.0, and Triton."""
    dispatch._choose_for.cache_clear()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(dispatch, "find_spec", lambda name: name)
    yield monkeypatch
    dispatch._choose_for.cache_clear()


def test_triton_runs_what_fits() -> None:
    assert chosen("cuda") == Route(TRITON, "the quickest that liptt has")
    assert describe(GridForm((8, 8)), "cuda") == chosen("cuda")
    assert describe(DenseForm((8, 8), "float16"), "cuda") == Route(TORCH, "plain numbers: torch multiplies them")


@pytest.mark.parametrize("wanted", ["fast", TRITON_FAST])
def test_eight_bit_inputs_are_asked_for(ampere: Patch, wanted: str) -> None:
    ampere.setenv(VARIABLE, wanted)
    assert chosen("cuda") == Route(TRITON_FAST, f"{VARIABLE}={wanted}: 8-bit inputs")


def test_torch_is_asked_for(ampere: Patch) -> None:
    with exact():
        assert chosen("cuda") == Route(TORCH, "exactness was asked for")
    ampere.setenv(VARIABLE, TORCH)
    assert chosen("cuda") == Route(TORCH, f"{VARIABLE}={TORCH}")


def test_an_unknown_name_is_refused(ampere: Patch) -> None:
    ampere.setenv(VARIABLE, "tritan")
    with pytest.raises(ConfigError, match="no such kernel; it may be one of auto, fast, torch, triton"):
        chosen("cuda")


@pytest.mark.parametrize(
    ("owner", "name", "value", "reason"),
    [
        (dispatch, "find_spec", lambda _: None, "Triton is not installed"),
        (torch.cuda, "get_device_capability", lambda: (7, 5), "no tensor cores for bfloat16"),
        (torch.cuda, "is_available", lambda: False, "there is no GPU"),
        (torch.version, "hip", "6.4", "no kernel for ROCm"),
    ],
)
def test_torch_runs_where_triton_cannot(ampere: Patch, owner: object, name: str, value: object, reason: str) -> None:
    ampere.setattr(owner, name, value)
    route = chosen("cuda")
    assert route.name == TORCH
    assert reason in route.reason


def test_other_devices_have_no_kernel() -> None:
    assert chosen("mps") == Route(TORCH, "no kernel for mps")
