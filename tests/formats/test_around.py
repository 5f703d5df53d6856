"""What stands around a weight: its meaning, its bytes, its training, and that nobody takes it for a matrix."""

import pytest
import torch
from torch import nn

from drawn import seeded
from liptt_cli.errors import ConfigError, IntegrityError
from liptt_cli.exports.targets import Wishes, carried_by
from liptt_cli.formats.around import Around, Experts, put_around, rounded_inputs
from liptt_cli.formats.base import Encoded, Stored
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.forms.around import AroundForm
from liptt_cli.forms.base import bits_per_weight, blob_bytes
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.forms.read import form_from_json
from liptt_cli.kernels.dispatch import TORCH, describe
from liptt_cli.layers.packed import PackedLinear
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.tuning import LatentOptions
from liptt_cli.packing.account import describe as in_words
from liptt_cli.packing.blob import pack, unpack, unpack_stored

ROWS, COLUMNS, EXPERTS = 12, 10, 3


def half(*shape, seed):
    return (0.5 + torch.rand(shape, generator=seeded(seed))).half()


def signs(scale=True):
    codes = torch.randint(0, 2, (1, ROWS, COLUMNS), generator=seeded(1), dtype=torch.uint8)
    envelope = Envelope(half(1, 1, ROWS, 1, seed=2), half(1, 1, COLUMNS, seed=3), COLUMNS)
    return Grid(codes, envelope if scale else None)


def experts():
    router = torch.randn(EXPERTS, COLUMNS, generator=seeded(4)).half()
    return Experts(router, half(EXPERTS, COLUMNS, seed=5), half(EXPERTS, ROWS, seed=6))


VALUES = {
    "norm": Around(signs(), output_norm=True),
    "experts": Around(signs(scale=False), experts=experts()),
    "8 bits": Around(signs(), input_bits=8),
    "4 bits": Around(signs(), input_bits=4),
    "all": Around(signs(scale=False), True, experts(), 8),
}


@pytest.fixture(params=VALUES)
def value(request):
    return VALUES[request.param]


def inputs(dtype=torch.float32):
    return torch.randn(2, 5, COLUMNS, generator=seeded(7)).to(dtype)


def test_it_is_what_the_formula_says():
    x, weight = inputs(), signs().dense()
    norm = nn.LayerNorm(ROWS, elementwise_affine=False)
    torch.testing.assert_close(VALUES["norm"].apply(x), norm(x @ weight.T))
    mixed = experts()
    shares = (x @ mixed.router.float().T).softmax(-1)
    out = ((x * (shares @ mixed.inputs.float())) @ signs(scale=False).dense().T) * (shares @ mixed.outputs.float())
    torch.testing.assert_close(VALUES["experts"].apply(x), out)
    step = x.abs().amax(-1, keepdim=True) / 127
    torch.testing.assert_close(VALUES["8 bits"].apply(x), ((x / step).round() * step) @ weight.T)


@pytest.mark.parametrize(("bits", "levels"), [(4, 16), (8, 256)])
def test_inputs_of_so_many_bits_have_so_many_levels_and_pass_gradients(bits, levels):
    x = torch.linspace(-1, 1, 2001).requires_grad_()
    rounded = rounded_inputs(x, bits)
    assert len(rounded.detach().unique()) == levels - 1  # the lowest one is never reached: the range is symmetric
    assert (rounded - x).abs().max() <= 0.51 / (levels / 2 - 1)
    rounded.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(rounded_inputs(torch.zeros(3), bits), torch.zeros(3))


def test_every_byte_counts_and_comes_back(value):
    blob = pack(value.settled())
    assert len(blob) == blob_bytes(value.form)
    again = unpack_stored(value.form, blob)
    assert again.form == value.form == form_from_json(value.form.to_json())
    assert all(torch.equal(again.fields()[name], tensor) for name, tensor in value.fields().items())
    assert torch.equal(again.apply(inputs()), value.apply(inputs()))
    router = 16 * EXPERTS * (2 * COLUMNS + ROWS) / (ROWS * COLUMNS) if value.experts else 0
    assert bits_per_weight(value.form) >= bits_per_weight(value.inner.form) + router


def test_binary_mixture_of_scales_costs_what_the_paper_counts():
    form = AroundForm(GridForm((4096, 4096)), experts=4)
    assert bits_per_weight(form) == pytest.approx(1 + 3 * 16 * 4 / 4096)
    assert form.fitted == GridForm((4096, 4096), scale=EnvelopeForm(4096, 4096, cols=True))


def test_it_is_stored_but_no_matrix(value):
    assert isinstance(value, Stored)
    assert not isinstance(value, Encoded)
    with pytest.raises(IntegrityError, match="more than a matrix"):
        unpack(value.form, pack(value.settled()))
    module = packed(value)
    with pytest.raises(IntegrityError, match="only liptt runs it"):
        module.to_linear(torch.float32)
    route = describe(value.form)
    assert route.name == TORCH and (route.reason.startswith("a norm, experts") or "LIPTT" in route.reason)
    assert "around it: " in in_words(value.form)


@pytest.mark.parametrize("name", ["hf", "gguf", "compressed-tensors"])
def test_no_other_program_gets_it_even_as_plain_numbers(name):
    forms = {"a": VALUES["norm"].form, "b": GridForm((8, 8))}
    with pytest.raises(ConfigError, match=rf"1 of 2 linears, such as a, have .*around the weight, which {name}"):
        carried_by(name, forms, Wishes(allow_densify=True))
    assert carried_by("liptt", forms, Wishes())["a"].kind == "exact"


def packed(value):
    module = PackedLinear(value.form, bias=False)
    module.weight.copy_(pack(value.settled()))
    return module


def test_the_packed_linear_runs_it(value):
    x = inputs().requires_grad_()
    y = packed(value)(x)
    assert torch.equal(y, value.apply(x))
    y.square().sum().backward()
    assert x.grad.abs().sum() > 0
    with torch.inference_mode():
        assert torch.equal(packed(value)(inputs()), value.apply(inputs()))


def test_it_trains_as_it_is_stored(value):
    train = ("codes", "scales")
    module = thaw(value, options=LatentOptions(ste="identity"), train=train)
    before = module.freeze()
    assert before.form == value.form
    assert all(torch.equal(before.fields()[name], tensor) for name, tensor in value.settled().fields().items())
    assert torch.equal(module(inputs()), value.apply(inputs()))
    groups = module.groups()
    assert len(groups["scales"]) == (3 if value.experts else 2)
    optimizer = torch.optim.Adam([p for part in groups.values() for p in part], lr=0.3)
    target = torch.randn(2, 5, ROWS, generator=seeded(8))
    for _ in range(5):
        optimizer.zero_grad()
        (module(inputs()) - target).square().sum().backward()
        assert all(p.grad.abs().sum() > 0 for part in groups.values() for p in part)
        optimizer.step()
    after = module.freeze()
    moved = {name for name, tensor in after.fields().items() if not torch.equal(tensor, value.fields()[name])}
    assert {"inner.codes", *(("router", "inputs", "outputs") if value.experts else ())} <= moved
    assert torch.equal(module(inputs()), after.apply(inputs()))


def test_experts_take_the_scales_over_and_start_alike_but_for_the_router():
    form = AroundForm(GridForm((ROWS, COLUMNS)), experts=4)
    value = put_around(signs(), form, generator=seeded(9))
    assert value.form == form
    torch.testing.assert_close(value.apply(inputs()), signs().apply(inputs()))
    assert len(value.experts.router.unique(dim=0)) == 4
    with pytest.raises(ValueError, match="take over a scale a row and a column"):
        put_around(signs(scale=False), form, generator=seeded(9))
