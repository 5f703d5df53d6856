"""Every compiled kernel against the float64 meaning: shapes, groups, batches, scales, outliers, dtypes, threads."""

import os
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.kernels import native
from liptt_cli.kernels.dispatch import TORCH, VARIABLE
from liptt_cli.kernels.operators import sign_products
from liptt_cli.kernels.reference import run_block
from signs import block_of, bound, entries, gaussian, grid, relative_error


def product(value, x, kernel):
    """The kernel's product, its output being NaN before."""
    block = block_of([value])
    y = torch.full((len(x), value.form.shape[0]), float("nan"), dtype=x.dtype)
    if kernel == TORCH:
        return run_block(block, x)
    native.run(native.kernel_number(kernel), block, x, y)
    return y


def check(value, x, kernel):
    wanted = x.double() @ value.dense(torch.float64).T
    found = product(value, x, kernel)
    assert ((found.double() - wanted).abs() <= bound(value, x, kernel)).all()


SHAPES = [(1, 1), (31, 7), (33, 129), (64, 128), (65, 130), (96, 260), (130, 1001), (200, 1300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ragged_shapes(kernel: str, shape):
    check(grid(*shape, shape[1]), gaussian(3, shape[1]), kernel)
    check(grid(*shape), gaussian(1, shape[1]), kernel)


@pytest.mark.parametrize("group_columns", [1, 5, 8, 100, 128, 200, 256])
def test_odd_groups_of_scales(kernel: str, group_columns: int):
    check(grid(70, 515, group_columns), gaussian(2, 515), kernel)


def test_every_batch_from_1_to_65(kernel: str):
    value = grid(40, 136, 128)
    block, x = block_of([value]), gaussian(65, 136)
    rows = [product(value, x[token : token + 1], kernel) for token in range(65)]
    for tokens in range(1, 66):
        y = torch.full((tokens, 40), float("nan"))
        if kernel != TORCH:
            native.run(native.kernel_number(kernel), block, x[:tokens].contiguous(), y)
            assert torch.equal(y, torch.cat(rows[:tokens]))  # a token's numbers do not depend on its neighbours


@pytest.mark.parametrize("tokens", [1, 9])
def test_more_rows_than_one_tile(kernel: str, tokens: int):
    check(grid(4200, 24, 24), gaussian(tokens, 24), kernel)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 400)),
    group_columns=st.none() | st.integers(1, 400),
    tokens=st.integers(1, 9),
    exponent=st.integers(-20, 20),
)
def test_any_grid(kernel: str, shape, group_columns, tokens: int, exponent: int):
    x = gaussian(tokens, shape[1], seed=exponent) * 2.0**exponent
    check(grid(*shape, group_columns, by_row=exponent % 2 == 0), x, kernel)


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_inputs_of_extreme_size(kernel: str, size: float):
    check(grid(64, 300, 128), gaussian(2, 300) * size, kernel)


@pytest.mark.parametrize("size", [6e-8, 1e-5, 0.0, 65504.0])
def test_scales_of_extreme_size(kernel: str, size: float):
    codes = grid(64, 300).codes
    scales = torch.full((1, 1, 64, 3), size, dtype=torch.float16)
    scales[..., 1] = 0.0
    check(Grid(codes, Envelope(scales, None, 128)), gaussian(2, 300), kernel)


def test_zeros_give_zeros(kernel: str):
    assert torch.equal(product(grid(64, 300, 128), torch.zeros(2, 300), kernel), torch.zeros(2, 64))


def test_an_outlier_costs_its_own_group_of_columns_and_token_only(kernel: str):
    value, x = grid(96, 512, 512), gaussian(3, 512)
    before = product(value, x, kernel)
    x[1, 200] = 30.0
    after = product(value, x, kernel)
    check(value, x, kernel)
    assert torch.equal(before[[0, 2]], after[[0, 2]])


def test_what_is_not_finite_stays_so_in_its_own_token(kernel: str):
    x = gaussian(3, 300)
    x[0, 5], x[2, 290] = float("inf"), float("nan")
    y = product(grid(64, 300, 128), x, kernel)
    assert not torch.isfinite(y[0]).any()
    assert torch.isnan(y[2]).all()
    assert torch.isfinite(y[1]).all()


@pytest.mark.parametrize(("outlier", "full", "fast"), [(0.0, 1.6e-3, 2e-2), (30.0, 1.6e-3, 4e-2)])
def test_the_error_is_that_of_bfloat16_inputs(kernel: str, outlier: float, full: float, fast: float):
    value, x = grid(512, 2048, 128), gaussian(8, 2048)
    x[:, 77] += outlier
    wanted = x.double() @ value.dense(torch.float64).T
    assert relative_error(product(value, x, kernel), wanted) <= (fast if entries(kernel) < 1000 else full)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_float_product_rounded_once(kernel: str, dtype: torch.dtype):
    value, x = grid(70, 300, 128), gaussian(5, 300).to(dtype)
    assert torch.equal(product(value, x, kernel), product(value, x.float(), kernel).to(dtype))


def test_float16_rounds_like_torch_in_every_range():
    value, kernel = grid(1, 1), "portable" if "portable" in native.kernels() else TORCH
    sizes = torch.cat([torch.logspace(-9, 5, 400), torch.tensor([65519.0, 65520.0, 1e30, 0.0])])
    x = torch.cat([sizes, -sizes]).half().unsqueeze(1)
    assert torch.equal(product(value, x, kernel), x * value.dense(torch.float16)[0, 0])


@pytest.mark.parametrize("tokens", [1, 7])
def test_one_and_more_threads_give_the_same_bits(kernel: str, tokens: int, monkeypatch: pytest.MonkeyPatch):
    value, x = grid(700, 300, 128), gaussian(tokens, 300)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(native, "threads", lambda threads=threads: threads)
        found += [product(value, x, kernel) for _ in range(20)]
    assert all(torch.equal(each, found[0]) for each in found)


def test_calls_from_several_python_threads_do_not_mix(kernel: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "threads", lambda: 2)
    value, inputs = grid(700, 300, 128), [gaussian(2, 300, seed=seed) for seed in range(4)]
    wanted = [product(value, x, kernel) for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not torch.equal(product(value, inputs[number], kernel), wanted[number]):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(kernel: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "threads", lambda: 2)
    value, x = grid(700, 300, 128), gaussian(2, 300)
    wanted = product(value, x, kernel)
    child = os.fork()
    if not child:
        os._exit(0 if torch.equal(product(value, x, kernel), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_operator_takes_any_lead_and_what_is_not_contiguous(kernel: str):
    value, x = grid(40, 96, 96), gaussian(6, 192)[:, ::2]
    found = sign_products(x.reshape(2, 3, 96), block_of([value]), 40)
    assert found.shape == (2, 3, 40)
    assert torch.equal(found.reshape(6, 40), product(value, x.contiguous(), kernel))
    assert sign_products(x[:0], block_of([value]), 40).shape == (0, 40)


@pytest.mark.parametrize(("text", "processors"), [("max 100000", None), ("150000 100000", 1), ("400000 100000", 4)])
def test_the_quota_of_a_control_group_limits_the_threads(tmp_path, text: str, processors: int | None):
    (tmp_path / "cpu.max").write_text(text)
    assert native._quota(tmp_path / "cpu.max") == processors
    assert native._quota(tmp_path / "absent") is None


def test_threads_are_those_of_torch_within_the_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "thread_limit", lambda: 2)
    for wanted, got in ((1, 1), (2, 2), (16, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda wanted=wanted: wanted)
        assert native.threads() == got


def test_a_pointer_to_something_else_is_refused(kernel: str):
    if kernel != TORCH:
        x = torch.zeros(1, 8)
        with pytest.raises(ValueError, match="no program"):
            native.run(native.kernel_number(kernel), torch.zeros(512, dtype=torch.uint8), x, x)
        with pytest.raises(ValueError, match="no kernel"):
            native.run(99, block_of([grid(8, 8)]), x, x)
    assert os.environ[VARIABLE] == kernel
