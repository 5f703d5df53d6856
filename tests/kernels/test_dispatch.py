"""Which kernel is chosen, and the reasons."""

import pytest

from drawn import chain_form
from liptt_cli.errors import ConfigError
from liptt_cli.forms.leaves import GridForm
from liptt_cli.kernels import dispatch, native
from liptt_cli.kernels.dispatch import VARIABLE, Route, chosen, describe, exact

ALL = {"avx512": True, "avx2-fast": True, "avx2": True, "portable": True}


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch):
    """Return `having(kernels)`: go on as if these were compiled, with what the processor has."""

    def having(kernels: dict[str, bool], absent: str = "") -> None:
        dispatch._choose.cache_clear()
        monkeypatch.setattr(native, "kernels", lambda: kernels)
        monkeypatch.setattr(native, "ABSENT", absent)

    monkeypatch.delenv(VARIABLE, raising=False)
    yield having
    dispatch._choose.cache_clear()


def test_the_quickest_that_is_accurate(processor):
    processor(ALL)
    assert chosen() == Route("avx512", "the quickest that liptt has")


def test_a_processor_that_lacks_something_is_told_so(processor):
    processor(ALL | {"avx512": False})
    assert chosen() == Route("avx2", "this processor has no avx512")
    processor(dict.fromkeys(ALL, False) | {"portable": True})
    assert chosen() == Route("portable", "this processor has no avx512, no avx2")


def test_without_the_extension_torch_runs_and_says_why(processor):
    processor({}, "not compiled")
    assert chosen() == Route("torch", "not compiled")
    assert describe(GridForm((8, 8))) == chosen()


@pytest.mark.parametrize(("wanted", "name"), [("fast", "avx512"), ("avx2", "avx2"), ("torch", "torch")])
def test_the_environment_chooses(processor, monkeypatch: pytest.MonkeyPatch, wanted: str, name: str):
    processor(ALL)
    monkeypatch.setenv(VARIABLE, wanted)
    assert chosen().name == name
    assert f"{VARIABLE}={wanted}" in chosen().reason


def test_fast_is_the_table_of_7_bits_where_nothing_exact_is_quicker(processor, monkeypatch: pytest.MonkeyPatch):
    processor(ALL | {"avx512": False})
    monkeypatch.setenv(VARIABLE, "fast")
    assert chosen() == Route("avx2-fast", f"{VARIABLE}=fast: 7-bit tables")


@pytest.mark.parametrize(
    ("kernels", "wanted", "reason"),
    [
        (ALL | {"avx512": False}, "avx512", "cannot run it; it may be one of auto, torch, avx2-fast, avx2"),
        (ALL, "avx1024", "no such kernel"),
        ({"portable": True}, "fast", "no such kernel"),
        ({}, "avx2", "not compiled"),
    ],
)
def test_what_is_not_there_is_refused(processor, monkeypatch: pytest.MonkeyPatch, kernels, wanted, reason):
    processor(kernels, "" if kernels else "not compiled")
    monkeypatch.setenv(VARIABLE, wanted)
    with pytest.raises(ConfigError, match=reason):
        chosen()


def test_a_form_is_described_with_its_kernel_or_its_reason(processor):
    processor(ALL)
    assert describe(GridForm((8, 8))).name == "avx512"
    assert describe(chain_form((8, 8), [3], layout="mpo")).name == "torch"
    assert "paired modes" in describe(chain_form((8, 8), [3], layout="mpo")).reason


def test_exactness_is_asked_for_inside_a_block_and_no_longer(processor):
    processor(ALL)
    with exact():
        with exact():
            pass
        assert chosen().name == "torch"
    assert chosen().name == "avx512"
