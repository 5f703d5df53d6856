"""The trained view and the packed weight are one computation, before, during and after a training."""

import pytest
import torch

from liptt_cli.errors import ConfigError
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.dense import Dense
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.sum import Sum
from liptt_cli.formats.zero import Zero
from liptt_cli.formats.zones import Zones
from liptt_cli.layers.parts import Part
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.tuning import LatentOptions

TRAIN = ("codes", "scales", "weights")


def draw(seed):
    return torch.Generator().manual_seed(seed)


def codes(*shape, seed=0):
    return torch.randint(0, 2, shape, generator=draw(seed), dtype=torch.uint8)


def scale(*shape, seed=1, mean=0.05):
    return (mean * (0.5 + torch.rand(shape, generator=draw(seed)))).half()


def matrix(*shape, dtype=torch.float16):
    return torch.randn(shape, generator=draw(2)).to(dtype)


def chain(cores, scales, out_modes, in_modes, shape=(12, 10)):
    return Chain(tuple(cores), tuple(scales), shape, out_modes, in_modes)


VALUES = {
    "dense float16": Dense(matrix(12, 10), "float16"),
    "dense bfloat16": Dense(matrix(12, 10, dtype=torch.bfloat16), "bfloat16"),
    "dense float32": Dense(matrix(12, 10, dtype=torch.float32), "float32"),
    "bare signs": Grid(codes(1, 12, 10)),
    "row and column": Grid(codes(1, 12, 10), Envelope(scale(1, 1, 12, 1), scale(1, 1, 10, mean=2), 10)),
    "groups, planes, shift": Grid(
        codes(2, 12, 10), Envelope(scale(2, 1, 12, 3), None, 4), Envelope(scale(1, 1, 12, 1) - 0.05, None, 10)
    ),
    "rank two envelope": Grid(codes(1, 12, 10), Envelope(scale(1, 2, 12, 1), scale(1, 2, 10), 10)),
    "split of two": chain(
        [Grid(codes(1, 12, 8)), Grid(codes(1, 8, 10))],
        [scale(12), scale(8, mean=0.2), scale(10, mean=3)],
        (12, 1),
        (1, 10),
    ),
    "split of three, no bond scales": chain(
        [Grid(codes(1, 3, 3)), Grid(codes(1, 12, 8)), Grid(codes(1, 8, 10))],
        [scale(12), None, None, scale(10)],
        (3, 4, 1),
        (1, 1, 10),
    ),
    "paired, padded": chain(
        [Grid(codes(1, 4, 10)), Grid(codes(1, 20, 2))], [scale(12), scale(5), scale(10)], (4, 4), (2, 2), (13, 3)
    ),
    "float cores": chain([Dense(matrix(12, 8), "float16"), Grid(codes(1, 8, 10))], [None] * 3, (12, 1), (1, 10)),
}
VALUES["paired, padded"] = Chain(
    (Grid(codes(1, 4, 10)), Grid(codes(1, 20, 5))), (scale(13), scale(5), scale(9)), (13, 9), (4, 4), (2, 5)
)


def zones(layout, counts, labels, parts):
    return Zones(torch.tensor(labels, dtype=torch.uint8), parts, (12, 10), layout, counts)


VALUES["salient columns"] = zones("column", (2,), [[3, 7]], (Zero((12, 10)), Dense(matrix(1, 24), "float16")))
VALUES["sparse"] = zones(
    "index", (1,), [[k % 10] for k in range(12)], (Zero((12, 10)), Dense(matrix(1, 12), "float16"))
)
VALUES["two kinds of signs"] = zones(
    "entry",
    (60,),
    [[(row + column) % 2 for column in range(10)] for row in range(12)],
    (
        Grid(codes(1, 1, 60), Envelope(scale(1, 1, 12, 1), None, 10)),
        Grid(codes(2, 1, 60), Envelope(scale(2, 1, 12, 3), None, 4)),
    ),
)
VALUES["magnitudes on the cores"] = chain(
    [
        Grid(codes(1, 12, 8), Envelope(scale(1, 2, 12, 1), scale(1, 2, 8), 8)),
        Grid(codes(1, 8, 10), Envelope(scale(1, 2, 8, 1), scale(1, 2, 10), 10)),
    ],
    [None] * 3,
    (12, 1),
    (1, 10),
)
VALUES["chain and sparse"] = Sum((VALUES["split of two"], VALUES["sparse"]))
VALUES["two paths"] = Sum((VALUES["split of two"], VALUES["split of two"]))


def same(left, right):
    assert left.form == right.form
    for name, tensor in left.fields().items():
        other = right.fields()[name]
        assert other.dtype == tensor.dtype, name
        assert torch.equal(other, tensor), name


def inputs(value, seed=3):
    return torch.randn(2, 7, value.form.shape[1], generator=draw(seed))


@pytest.fixture(params=VALUES)
def value(request):
    return VALUES[request.param]


@pytest.fixture(params=["identity", "clip", "tanh", "ede", "flips"])
def options(request):
    if request.param == "flips":
        return LatentOptions(kind="flips", flip_share=0.05, flip_every=2)
    return LatentOptions(ste=request.param)


def step(module, value, *, count, rate):
    flipping = [part.latent for part in module.modules() if getattr(part, "flips", None) is not None]
    moved = [p for p in module.parameters() if p.requires_grad and all(p is not other for other in flipping)]
    moved = moved or [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.Adam(moved, lr=rate)
    target = torch.randn(2, 7, value.form.shape[0], generator=draw(4))
    for _ in range(count):
        module.zero_grad()
        (module(inputs(value)) - target).square().mean().backward()
        optimizer.step()
        for part in module.modules():
            if isinstance(part, Part):
                part.advance(0.5)


def refused(value, options):
    """Whether the estimator is one of a single plane of signs, and the value has more."""
    parts = getattr(value, "parts", (value,))
    return options.ste in ("tanh", "ede") and any(len(part.codes) > 1 for part in parts if isinstance(part, Grid))


def test_freeze_of_thaw_is_the_value(value, options):
    if refused(value, options):
        with pytest.raises(ConfigError, match="is of one plane of signs; use identity or clip"):
            thaw(value, options=options, train=TRAIN)
        return
    same(thaw(value, options=options, train=TRAIN).freeze(), value)
    same(thaw(value, options=options, train=()).freeze(), value)


def test_the_trained_view_computes_what_the_packed_value_does(value, options):
    if refused(value, options):
        return
    bias = torch.randn(value.form.shape[0], generator=draw(5))
    module = thaw(value, options=options, train=TRAIN, bias=bias)
    x = inputs(value)
    assert torch.equal(module(x), value.apply(x) + bias)
    before = module.freeze()
    step(module, value, count=40, rate=0.05)
    after = module.freeze()
    assert not torch.equal(after.dense(), before.dense())
    assert torch.equal(module(x), after.apply(x) + bias)
    same(thaw(after, options=options, train=TRAIN).freeze(), after)


def test_gradients_reach_what_train_names_and_nothing_else(value):
    for train in ((), ("codes",), ("scales",), ("weights",), TRAIN):
        module = thaw(value, options=LatentOptions(), train=train, bias=torch.zeros(value.form.shape[0]))
        groups = module.groups()
        wanted = {p for name in train for p in groups[name]}
        if wanted:
            module(inputs(value)).square().sum().backward()
        got = {p for p in module.parameters() if p.grad is not None}
        assert got == wanted == {p for p in module.parameters() if p.requires_grad}
        assert all(p.grad.abs().sum() > 0 for p in got)


def test_fixed_codes_stay_while_scales_train():
    value = VALUES["split of two"]
    module = thaw(value, options=LatentOptions(kind="none"), train=("scales",))
    assert module.groups()["codes"] == []
    step(module, value, count=20, rate=0.05)
    for before, after in zip(value.cores, module.freeze().cores, strict=True):
        assert torch.equal(before.codes, after.codes)
    assert not torch.equal(value.scales[0], module.freeze().scales[0])


def test_a_step_of_adam_is_a_share_of_each_scale_vectors_mean():
    value = VALUES["split of two"]
    module = thaw(value, options=LatentOptions(), train=("scales",))
    step(module, value, count=1, rate=0.01)
    for before, latent in zip(value.scales, module.latent.scales.values(), strict=True):
        moved = (latent.relative * latent.unit).detach() - before.float()
        torch.testing.assert_close(moved.abs(), (0.01 * before.float().mean()).expand_as(moved), rtol=1e-2, atol=0)


def test_sources_start_latents_at_unit_mean_and_never_change_a_code():
    value = VALUES["split of two"]
    sources = [torch.randn(core.codes.shape, generator=draw(6)).half() * 3 for core in value.cores]
    module = thaw(value, options=LatentOptions(), train=TRAIN, sources=sources)
    same(module.freeze(), value)
    for core, source, latent in zip(value.cores, sources, module.groups()["codes"], strict=True):
        agree = (source >= 0) == (core.codes == 1)
        assert 0 < agree.float().mean() < 1
        unit = source.float() / source.float().abs().mean()
        assert torch.equal(latent[agree], unit[agree])
        assert (latent[~agree].abs() < 1e-30).all()


def test_each_grid_of_a_sum_takes_its_own_source():
    value = VALUES["two paths"]
    sources = [torch.randn(1, *shape, generator=draw(7)) for shape in [(12, 8), (8, 10)] * 2]
    latents = thaw(value, options=LatentOptions(), train=TRAIN, sources=sources).groups()["codes"]
    cores = [core for part in value.parts for core in part.cores]
    for core, source, latent in zip(cores, sources, latents, strict=True):
        agree = (source >= 0) == (core.codes == 1)
        assert torch.equal(latent[agree], (source / source.abs().mean())[agree])


@pytest.mark.parametrize(("count", "words"), [(3, "fewer sources than grids"), (5, "1 sources more than")])
def test_sources_are_as_many_as_the_grids(count, words):
    sources = [torch.randn(1, *shape, generator=draw(7)) for shape in ([(12, 8), (8, 10)] * 3)[:count]]
    with pytest.raises(ValueError, match=words):
        thaw(VALUES["two paths"], options=LatentOptions(), train=TRAIN, sources=sources)


def test_latents_may_keep_the_size_of_their_sources():
    value = VALUES["split of two"]
    sources = [0.01 * torch.randn(core.codes.shape, generator=draw(6)) for core in value.cores]
    module = thaw(value, options=LatentOptions(unit=False), train=TRAIN, sources=sources)
    same(module.freeze(), value)
    for core, source, latent in zip(value.cores, sources, module.groups()["codes"], strict=True):
        agree = (source >= 0) == (core.codes == 1)
        assert torch.equal(latent[agree], source[agree])
        assert (latent[~agree].abs() < 1e-30).all()


def test_without_sources_latents_are_the_levels():
    value = VALUES["split of two"]
    for options, sources in ((LatentOptions(), None), (LatentOptions(source="signs"), [torch.ones(1, 12, 8)] * 2)):
        latents = thaw(value, options=options, train=TRAIN, sources=sources).groups()["codes"]
        assert all(
            torch.equal(latent, core.levels(torch.float32)) for latent, core in zip(latents, value.cores, strict=True)
        )


def test_a_source_of_zeros_or_a_scale_of_zeros_is_taken_as_it_is():
    value = Grid(codes(1, 4, 4), Envelope(torch.zeros(1, 1, 4, 1, dtype=torch.float16), None, 4))
    same(thaw(value, options=LatentOptions(), train=TRAIN, sources=[torch.zeros(1, 4, 4)]).freeze(), value)


@pytest.mark.parametrize("source", [torch.ones(1, 3, 4), torch.full((1, 4, 4), float("nan"))])
def test_a_source_that_cannot_be_is_refused(source):
    with pytest.raises(ValueError, match="source of shape"):
        thaw(Grid(codes(1, 4, 4)), options=LatentOptions(), train=TRAIN, sources=[source])


def test_a_scale_only_training_at_a_tiny_rate_still_lowers_the_loss():
    """The float32 master moves although a step is far below half a unit of float16 (CONTRACTS 11, risk 2)."""
    value = VALUES["split of two"]
    module = thaw(value, options=LatentOptions(), train=("scales",))
    target = 1.002 * value.apply(inputs(value))

    def loss():
        return (module(inputs(value)) - target).square().mean()

    first = loss().item()
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-6)
    for _ in range(400):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.9 * first


def test_under_autocast_the_two_views_are_one_as_well():
    value = VALUES["split of two"]
    module = thaw(value, options=LatentOptions(), train=TRAIN)
    with torch.autocast("cpu", torch.bfloat16):
        step(module, value, count=10, rate=0.05)
        assert torch.equal(module(inputs(value)), module.freeze().apply(inputs(value)))
    same(thaw(module.freeze(), options=LatentOptions(), train=TRAIN).freeze(), module.freeze())
