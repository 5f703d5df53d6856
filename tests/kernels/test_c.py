"""The C code under the sanitizers of addresses and undefined behaviour, in a program of its own."""

import subprocess
from pathlib import Path

import pytest
import torch

from drawn import chain_form, value_of
from kernels_here import compiler
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.forms.zones import ZonesForm
from liptt_cli.kernels import layout, native
from liptt_cli.kernels.reference import run_block
from signs import block_of, enveloped, gaussian, grid

_SOURCES = Path(layout.__file__).parent / "c"
_GRID = GridForm((40, 99), scale=EnvelopeForm(40, 10))
_CASES = {
    "ragged": ([grid(33, 129, 129)], 3),
    "odd groups": ([grid(70, 515, 100)], 5),
    "tiny": ([grid(1, 1)], 1),
    "many tokens": ([grid(130, 300, 128)], 67),
    "two pieces of tokens": ([grid(65, 150, 150)], 9),
    "chain beside a grid": ([value_of(chain_form((100, 77), [9])), enveloped(65, 77, 8, planes=2, rank=2)], 6),
    "gathered": ([value_of(ZonesForm((40, 99), "column", (9,), (_GRID, _GRID)))], 4),
}
_NUMBERS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The driver with sanitizers, or None without a compiler that has them."""
    target = tmp_path_factory.mktemp("driver") / "driver"
    sources = [*(file for file in _SOURCES.glob("*.c") if file.name != "module.c"), Path(__file__).parent / "driver.c"]
    flags = ["-std=c11", "-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread"]
    command = [*compiler(), *flags, f"-I{_SOURCES}", *map(str, sources), "-o", str(target)]
    try:
        built = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    return target if built.returncode == 0 else None


@pytest.mark.parametrize("dtype", _NUMBERS, ids=str)
@pytest.mark.parametrize(("values", "tokens"), _CASES.values(), ids=_CASES)
def test_no_byte_outside_and_nothing_undefined(driver: Path | None, values, tokens: int, dtype, tmp_path: Path):
    block, width = block_of(values), sum(value.form.shape[0] for value in values)
    x = gaussian(tokens, values[0].form.shape[1]).to(dtype)
    wanted = run_block(block, x.double())
    if driver is None:  # the fall-back is then all that runs
        assert torch.isfinite(wanted).all()
        return
    numbers = [len(block), _NUMBERS[dtype], tokens, x.nbytes, tokens * width * dtype.itemsize, 0, 0]
    pieces = [torch.tensor(numbers), block, x.contiguous()]
    (tmp_path / "case").write_bytes(b"".join(piece.view(torch.uint8).numpy().tobytes() for piece in pieces))
    ended = subprocess.run([driver, tmp_path / "case"], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    found = torch.frombuffer(bytearray(ended.stdout), dtype=dtype).reshape(-1, 2, tokens, width)
    assert len(found) == sum(native.kernels().values()) or not native.kernels()
    assert torch.equal(found[:, 0], found[:, 1])  # one and three threads
    assert ((found[:, 0].double() - wanted).norm(dim=(1, 2)) <= 0.05 * wanted.norm()).all()
