"""The training loop: it lowers losses, resumes to the bit, and stops with a clear word when numbers break."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from liptt_cli.algebra.objectives.base import Trace
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.errors import ConfigError, DivergenceError, OtherRunError
from liptt_cli.formats.chain import Chain
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.layers.surgery import thawed
from liptt_cli.menu import tuning as menu
from liptt_cli.tuning import Course, Lesson, finetune_model, make_accelerator, tune

LINEARS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def options(**changes):
    defaults = {
        "steps": 12,
        "batch_windows": 4,
        "learning_rate": menu.LearningRates(codes=0.05, scales=0.02),
        "objectives": [menu.HiddenSquare(kind="hidden_square")],
        "checkpoint_steps": 5,
    }
    return menu.Tuning(**{**defaults, **changes})


def course(**changes):
    defaults = {"options": options(), "objectives": [HiddenSquare()], "seed": 3}
    return Course(**{**defaults, **changes})


def draw(seed):
    return torch.Generator().manual_seed(seed)


def block_lesson(*, scale=1.0):
    """A toy block of one thawed chain behind a norm, against a dense target on stored inputs."""

    def normal(*shape, seed):
        return torch.randn(shape, generator=draw(seed))

    codes = [(normal(1, *shape, seed=seed) > 0).to(torch.uint8) for shape, seed in (((8, 6), 1), ((6, 8), 2))]
    scales = [torch.full((n,), s).half() for n, s in ((8, 0.3), (6, 0.5), (8, 1.0))]
    value = Chain((Grid(codes[0]), Grid(codes[1])), tuple(scales), (8, 8), (8, 1), (1, 8))
    block = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))
    with torch.no_grad():
        block[1].bias.copy_(normal(8, seed=3))
    thawed(block, {"1": value}, tuning=options())
    x = normal(10, 5, 8, seed=4)
    target = scale * (x @ normal(8, 8, seed=5).T)
    return Lesson(
        block,
        10,
        lambda index: Trace(hidden={-1: x[index], 0: block(x[index])}),
        lambda index: Trace(hidden={-1: x[index], 0: target[index]}),
    )


def state(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_block_learns_and_everything_outside_of_train_stays():
    lesson, seen = block_lesson(), []
    before = state(lesson.module)
    history = tune(lesson, course=course(options=options(steps=60), on_step=lambda *row: seen.append(row)))
    assert history.records[-1].loss < 0.8 * history.records[0].loss
    assert [record.step for record in history.records] == list(range(60))
    assert history.records[7].parts == {"hidden_square": pytest.approx(history.records[7].loss)}
    assert history.flip_share is not None
    assert 0 < history.flip_share < 0.5
    assert [record for record, _ in seen] == history.records
    assert seen[-1][1] == 0
    assert seen[0][1] > 0
    moved = {name for name, tensor in state(lesson.module).items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if "latent" in name}


def test_weights_and_several_objectives_add_up_and_a_weight_of_zero_is_a_diagnostic():
    objectives = [HiddenSquare(weight=0.5), Lipschitz(weight=0.1), HiddenSquare(weight=0.0, normalise=False)]
    lesson, alone = block_lesson(), block_lesson()
    record = tune(lesson, course=course(objectives=objectives)).records[-1]
    assert list(record.parts) == ["hidden_square 0", "lipschitz", "hidden_square 2"]
    assert record.loss == pytest.approx(0.5 * record.parts["hidden_square 0"] + 0.1 * record.parts["lipschitz"])
    tune(alone, course=course(objectives=objectives[:2]))
    assert same(state(lesson.module), state(alone.module))


def test_accumulated_batches_are_one_large_batch():
    whole = tune(block_lesson(), course=course(options=options(batch_windows=6)))
    parts = tune(block_lesson(), course=course(options=options(batch_windows=2, accumulate=3)))
    for record, other in zip(whole.records, parts.records, strict=True):
        assert record.loss == pytest.approx(other.loss, rel=1e-4)
    assert whole.records[0].gradient_norm == pytest.approx(parts.records[0].gradient_norm, rel=1e-4)


def test_windows_limit_what_is_seen():
    lesson, seen = block_lesson(), set()

    def watched(index):
        seen.update(index.tolist())
        return lesson.teacher(index)

    tune(replace(lesson, teacher=watched), course=course(options=options(windows=3)))
    assert seen == {0, 1, 2}


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [0, 4, 8, 11])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, stop):
    def stopper(record, _seconds):
        if record.step == stop:
            raise Stop

    path = tmp_path / "state.pt"
    whole = block_lesson()
    straight = tune(whole, course=course())
    with pytest.raises(Stop):
        tune(block_lesson(), course=course(checkpoint=path, on_step=stopper))
    assert path.exists() == (stop >= 4)
    seen = []
    resumed = block_lesson()
    history = tune(resumed, course=course(checkpoint=path, on_step=lambda record, _: seen.append(record.step)))
    assert seen == list(range({0: 0, 4: 5, 8: 5, 11: 12}[stop], 12))
    assert history == straight
    assert same(state(resumed.module), state(whole.module))
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_the_checkpoint_of_another_training_is_refused(tmp_path):
    first = course(checkpoint=tmp_path / "state.pt")
    tune(block_lesson(), course=first)
    for other in (replace(first, seed=4), replace(first, options=options(betas=[0.9, 0.99]))):
        with pytest.raises(OtherRunError, match=r"state\.pt: the checkpoint is of another training"):
            tune(block_lesson(), course=other)


def test_a_loss_that_is_not_finite_names_step_and_part():
    lesson = block_lesson()

    def broken(index):
        trace = lesson.teacher(index)
        return replace(trace, hidden={**trace.hidden, 0: trace.hidden[0] * (float("nan") if 7 in index else 1)})

    with pytest.raises(DivergenceError, match=r"step \d+: hidden_square is nan; lower the learning rate of codes"):
        tune(replace(lesson, teacher=broken), course=course())
    assert all(torch.isfinite(tensor).all() for tensor in state(lesson.module).values())


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ConfigError, match="nothing to train among weights"):
        tune(block_lesson(), course=course(options=options(train=["weights"])))
    with pytest.raises(ConfigError, match="windows: 11 asked for, but there are 10"):
        tune(block_lesson(), course=course(options=options(windows=11)))


def sign_values(model):
    """Every second linear of the model as signs under a row scale."""
    values = {}
    for name, module in model.named_modules():
        if name.endswith(LINEARS):
            weight = module.weight.detach()
            rows = weight.abs().mean(1).half().reshape(1, 1, -1, 1)
            values[name] = Grid((weight >= 0).to(torch.uint8)[None], Envelope(rows, None, weight.shape[1]))
    return values


def finetune(directory, *, accelerator=None, **changes):
    models = [AutoModelForCausalLM.from_pretrained(directory) for _ in range(2)]
    chosen = options(**{"steps": 8, "batch_windows": 2, "train": ["codes", "scales", "norms"], **changes})
    thawed(models[0], sign_values(models[1]), tuning=chosen)
    before = state(models[0])
    objectives = [TeacherNats(), HiddenSquare(weight=0.5), Lipschitz(weight=0.05)]
    ids = torch.randint(0, 300, (6, 12), generator=draw(1))
    history = finetune_model(
        models[0],
        models[1],
        block_path="model.layers",
        ids=ids,
        course=Course(chosen, objectives, 0, accelerator=accelerator),
    )
    return history, before, state(models[0])


def test_a_model_learns_from_its_teacher(tiny_llama):
    rates = menu.LearningRates(codes=0.02, scales=0.01, norms=0.01)
    history, before, after = finetune(tiny_llama, steps=15, batch_windows=6, learning_rate=rates)
    assert history.records[-1].loss < 0.8 * history.records[0].loss
    assert list(history.records[0].parts) == ["teacher_nats", "hidden_square", "lipschitz"]
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if ".latent." in name or "norm" in name}


def test_one_process_under_accelerate_is_the_same_training(tiny_llama):
    plain = finetune(tiny_llama)
    accelerated = finetune(tiny_llama, accelerator=make_accelerator())
    assert plain[0] == accelerated[0]
    assert same(plain[2], accelerated[2])
