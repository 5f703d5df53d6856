"""Codes of any alphabet train as the rounding of values: the laws of latents, sources, low rank, closed scales."""

import pytest
import torch

from liptt_cli.errors import ConfigError
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.formats.rounding import levels
from liptt_cli.formats.zones import Zones
from liptt_cli.forms.alphabets import ALPHABETS
from liptt_cli.layers.optimizer import make_optimizer
from liptt_cli.layers.trainable import thaw
from liptt_cli.menu.tuning import LatentOptions, Tuning

SHAPE = (12, 10)
TRAIN = ("codes", "scales")


def draw(seed):
    return torch.Generator().manual_seed(seed)


def indices(alphabet, *shape):
    return torch.randint(0, ALPHABETS[alphabet].count, shape, generator=draw(0), dtype=torch.uint8)


def numbers(*shape, seed=1, mean=0.05):
    return (mean * (0.5 + torch.rand(shape, generator=draw(seed)))).half()


def by(rows, groups, *, planes=1, sizes=(1.0,), shift=0.0):
    """One scale for each plane, row (of 1 or 12) and group of columns (1 of 10, or 3 of 4)."""
    scale = numbers(planes, 1, rows, groups) * torch.tensor(sizes).half().reshape(-1, 1, 1, 1) + shift
    return Envelope(scale.half(), None, 10 if groups == 1 else 4)


def grid(alphabet, scale, shift=None, *, planes=1, entries=None):
    return Grid(indices(alphabet, planes, *(SHAPE if entries is None else (1, entries))), scale, shift, alphabet)


LABELS = torch.tensor([[(row * column) % 3 % 2 for column in range(10)] for row in range(12)], dtype=torch.uint8)
COUNT = int(LABELS.sum())
VALUES = {
    "trits, one scale": grid("trit", by(1, 1)),
    "trits, groups and shift": grid("trit", by(12, 3), by(12, 3, shift=-0.05)),
    "trits, dead and negative groups": grid(
        "trit", Envelope(numbers(1, 1, 12, 3) * torch.tensor([1.0, 0.0, -1.0]).half(), None, 4)
    ),
    "int2, row and column": grid("int2", Envelope(numbers(1, 1, 12, 1), numbers(1, 1, 10, mean=2), 10)),
    "uint3, groups and shift": grid("uint3", by(12, 3), by(12, 3, shift=-0.2)),
    "int8, bare": grid("int8", None),
    "signs and a shift": grid("sign", by(12, 1), by(12, 1, shift=-0.05)),
    "two planes of bits": grid("bit", by(12, 3, planes=2, sizes=(2.0, -1.0)), planes=2),
    "two planes of signs": grid("sign", by(12, 1, planes=2, sizes=(2.0, 1.0)), planes=2),
    "trits and integers": Zones(
        LABELS,
        (grid("trit", by(12, 3), entries=120 - COUNT), grid("int4", by(12, 1), by(1, 1), entries=COUNT)),
        SHAPE,
        "entry",
        (COUNT,),
    ),
}
KINDS = {
    "dense": LatentOptions(ste="identity"),
    "dense, clipped, own units": LatentOptions(unit=False),
    "closed": LatentOptions(scales="closed"),
    "fixed": LatentOptions(scales="fixed"),
    "low rank": LatentOptions(kind="low_rank", rank=3, alpha=6.0),
    "low rank, bfloat16": LatentOptions(kind="low_rank", rank=3, phi="bfloat16"),
    "low rank, 8 bits": LatentOptions(kind="low_rank", rank=3, phi="fixed"),
}


def parts_of(value):
    return value.parts if isinstance(value, Zones) else (value,)


def same(left, right):
    assert left.form == right.form
    for name, tensor in left.fields().items():
        assert torch.equal(right.fields()[name], tensor), name


def inputs():
    return torch.randn(2, 7, 10, generator=draw(3))


def trained(module, *, steps=10, rate=0.1):
    options = Tuning(train=list(TRAIN), learning_rate={"codes": rate, "scales": rate})
    optimizer = make_optimizer(module, options)
    target = torch.randn(2, 7, 12, generator=draw(4))
    for _ in range(steps):
        optimizer.zero_grad()
        (module(inputs()) - target).square().mean().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", VALUES)
def test_the_laws_of_latents_hold_for_every_alphabet(name, kind):
    value, options = VALUES[name], KINDS[kind]
    if options.kind == "low_rank" and len(parts_of(value)[0].codes) > 1:
        with pytest.raises(ConfigError, match="low_rank is of codes of one plane"):
            thaw(value, options=options, train=TRAIN)
        return
    module = thaw(value, options=options, train=TRAIN)
    same(module.freeze(), value)
    assert torch.equal(module(inputs()), value.apply(inputs()))
    trained(module)
    after = module.freeze()
    assert any(not torch.equal(a.codes, b.codes) for a, b in zip(parts_of(value), parts_of(after), strict=True))
    assert torch.equal(module(inputs()), after.apply(inputs()))
    for before, part in zip(parts_of(value), parts_of(after), strict=True):
        if options.scales == "fixed" and before.scale is not None:
            assert torch.equal(before.scale.rows, part.scale.rows)
    again = thaw(after, options=options, train=TRAIN)
    assert torch.equal(again(inputs()), after.apply(inputs()))


def test_a_source_starts_the_latents_and_never_changes_a_code():
    """Where it would round to another code it goes as far towards the code's level as it must."""
    for name in ("trits, groups and shift", "uint3, groups and shift", "two planes of bits", "trits and integers"):
        value = VALUES[name]
        whole = value.dense() + 0.04 * torch.randn(SHAPE, generator=draw(5))
        sources = []
        for number, part in enumerate(parts_of(value)):
            region = number == LABELS if isinstance(value, Zones) else torch.ones(SHAPE, dtype=torch.bool)
            shift = 0.0 if part.shift is None else part.shift.over(10, torch.float32)[0]
            scale = part.scale.over(10, torch.float32)
            given = (whole - shift) / (scale[0] if len(scale) == 1 else 1.0)
            sources.append(given.unsqueeze(0) if number % 2 else given.expand(SHAPE)[region].unsqueeze(0))
        module = thaw(value, options=LatentOptions(), train=TRAIN, sources=sources)
        same(module.freeze(), value)
        kept = module.groups()["codes"]
        assert all(latent.numel() == part.codes[0].numel() for latent, part in zip(kept, parts_of(value), strict=True))
        if len(kept) == 1 and len(value.codes) == 1:
            own = levels(value.codes[0], alphabet=value.alphabet, dtype=torch.float32)
            moved = module.latent.codes.values().detach()
            agree = (sources[0].reshape(SHAPE) - own).abs() < 0.49
            assert 0 < agree.float().mean() < 1
            torch.testing.assert_close(moved[agree], sources[0].reshape(SHAPE)[agree])
            way, whole_way = moved - own, sources[0].reshape(SHAPE) - own
            assert (way * whole_way >= 0).all() and (way.abs() <= whole_way.abs() + 1e-6).all()


@pytest.mark.parametrize("source", [torch.ones(1, 3, 4), torch.full((1, 12, 10), float("nan"))])
def test_a_source_that_cannot_be_is_refused(source):
    with pytest.raises(ValueError, match="source of shape"):
        thaw(VALUES["trits, one scale"], options=LatentOptions(), train=TRAIN, sources=[source])


@pytest.mark.parametrize("phi", ["float32", "bfloat16", "fixed"])
def test_low_rank_latents_cost_gradients_and_moments_of_their_factors_and_scales_alone(phi):
    value = Grid(indices("int2", 1, 64, 96), Envelope(numbers(1, 1, 64, 3), None, 32), None, "int2")
    module = thaw(value, options=LatentOptions(kind="low_rank", rank=4, phi=phi), train=TRAIN)
    optimizer = trained_on(module, 96)
    factors, scales = 4 * (64 + 96), 64 * 3
    assert sum(p.grad.numel() for p in module.parameters() if p.grad is not None) == factors + scales
    held = sum(state.numel() for each in optimizer.state.values() for state in each.values() if state.ndim)
    assert held == 2 * (factors + scales)
    kept = sum(buffer.nbytes for name, buffer in module.named_buffers() if name.endswith("phi"))
    assert kept == 64 * 96 * {"float32": 4, "bfloat16": 2, "fixed": 1}[phi]
    dense = thaw(value, options=LatentOptions(), train=TRAIN)
    assert sum(p.numel() for p in dense.parameters()) == 64 * 96 + scales


def trained_on(module, columns):
    optimizer = make_optimizer(module, Tuning(train=list(TRAIN)))
    module(torch.randn(3, columns, generator=draw(1))).square().mean().backward()
    optimizer.step()
    return optimizer


def test_fixed_point_keeps_the_fraction_below_a_code():
    """Two bits of code leave six of fraction, so that small moves of the product add up (LR-QAT's Q2.6)."""
    value = Grid(indices("int2", 1, 12, 10), by(12, 1), None, "int2")
    own = levels(value.codes, alphabet="int2", dtype=torch.float32)
    source = own + 0.3 * (2 * torch.rand(own.shape, generator=draw(2)) - 1)
    options = LatentOptions(kind="low_rank", phi="fixed", rank=2)
    module = thaw(value, options=options, train=TRAIN, sources=[source])
    kept = module.latent.codes.values().detach()
    inside = (source[0] > -2) & (source[0] < 1)
    assert ((kept - source[0]).abs()[inside] <= 1 / 128).all()
    assert ((kept >= -2) & (kept <= 1)).all()


def test_closed_scales_are_the_mean_magnitude_of_what_they_scale():
    """b1.58: a scale that starts at its cell's mean magnitude is that mean from then on, and gets no gradient."""
    for rows in (1, 12):
        weight = torch.randn(SHAPE, generator=draw(7))
        mean = weight.abs().mean(dim=(0, 1) if rows == 1 else 1, keepdim=True)
        scale = Envelope(mean.reshape(1, 1, rows, 1).half(), None, 10)
        spread = scale.rows.float()[0, 0]
        coded = (weight / spread).round().clamp(-1, 1) + 1
        value = Grid(coded.to(torch.uint8).unsqueeze(0), scale, None, "trit")
        module = thaw(value, options=LatentOptions(scales="closed"), train=TRAIN, sources=[(weight / spread)[None]])
        assert module.groups()["scales"] == []
        trained(module, steps=5)
        latent = module.latent.codes.values().detach() * spread
        now = latent.abs().mean(dim=(0, 1) if rows == 1 else 1, keepdim=True)
        frozen = module.freeze()
        torch.testing.assert_close(frozen.scale.rows.float()[0, 0], now, rtol=2e-3, atol=0)
        assert not torch.equal(frozen.scale.rows, scale.rows)


def test_scales_and_shifts_get_the_gradient_of_fixed_codes():
    """Dual learnable ternarisation: d/da sums the gradient over codes, d/dc sums the gradient."""
    value = VALUES["trits, groups and shift"]
    module = thaw(value, options=LatentOptions(ste="identity"), train=TRAIN)
    upstream = torch.randn(SHAPE, generator=draw(9))
    (module.view().dense() * upstream).sum().backward()
    padded = torch.nn.functional.pad(torch.stack([upstream * value.levels(torch.float32)[0], upstream]), (0, 2))
    wanted = padded.unflatten(2, (3, 4)).sum(3)
    for part, sums in zip((module.latent.scale, module.latent.shift), wanted, strict=True):
        torch.testing.assert_close(part.rows.relative.grad[0, 0], sums * part.rows.unit[0, 0])
    step = module.latent.codes._step(module.latent.codes._over(module.latent.codes.scale))
    torch.testing.assert_close(module.latent.codes.latent.grad, upstream * step * module.latent.codes.unit)


def test_two_planes_move_together_as_the_levels_of_their_sums():
    """DB-LLM: b1 and b2 are functions of one weight, the nearest of 0, a1, a2 and a1 + a2."""
    scale = Envelope(torch.tensor([0.2, -0.1]).half().reshape(2, 1, 1, 1), None, 4)
    value = Grid(torch.tensor([[[0, 1, 0, 1]], [[1, 0, 0, 1]]], dtype=torch.uint8), scale, None, "bit")
    weight = torch.tensor([[-0.13, 0.24, 0.02, 0.08]])
    module = thaw(value, options=LatentOptions(ste="identity"), train=TRAIN, sources=[weight[None]])
    same(module.freeze(), value)
    torch.testing.assert_close(value.dense(), torch.tensor([[-0.1, 0.2, 0.0, 0.1]]), atol=1e-3, rtol=0)
    upstream = torch.tensor([[1.0, -2.0, 3.0, 0.5]])
    (module.view().dense() * upstream).sum().backward()
    codes = module.latent.codes
    step = codes._step(codes._over(codes.scale))
    torch.testing.assert_close(codes.latent.grad, upstream * step * codes.unit)


def test_clip_holds_values_back_beyond_the_outermost_levels_but_for_inward_steps():
    value = Grid(
        torch.tensor([[[2, 2, 0, 0]]], dtype=torch.uint8),
        Envelope(torch.ones(1, 1, 1, 1).half(), None, 4),
        None,
        "trit",
    )
    sources = [torch.tensor([[[1.4, 1.4, -1.4, -0.9]]])]
    module = thaw(value, options=LatentOptions(ste="clip", unit=False), train=TRAIN, sources=sources)
    (module.view().dense() * torch.tensor([[-1.0, 1.0, 1.0, 1.0]])).sum().backward()
    assert module.latent.codes.latent.grad.tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_signs_alone_flip():
    with pytest.raises(ConfigError, match="flips turns signs, not codes of trit"):
        thaw(VALUES["trits, one scale"], options=LatentOptions(kind="flips"), train=TRAIN)
