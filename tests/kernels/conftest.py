"""The kernels that this machine can run, one test each."""

from collections.abc import Iterator

import pytest

from liptt_cli.kernels import native
from liptt_cli.kernels.dispatch import TORCH, VARIABLE

HERE = [name for name, supported in native.kernels().items() if supported] or [TORCH]


@pytest.fixture(params=HERE, scope="module")
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kernel in turn, chosen by the environment; where nothing is compiled, the torch meaning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, request.param)
        yield request.param
