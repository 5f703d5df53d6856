"""The laws of objectives, for every kind on the menu, and each against its formula."""

import math
from typing import get_args

import pytest
import torch
from torch import nn

from liptt_cli.algebra.objectives.base import Trace
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.label_nats import LabelNats
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.catalogue import OBJECTIVES, objective_of
from liptt_cli.menu import tuning

RECORDS = [
    tuning.LabelNats(kind="label_nats"),
    tuning.TeacherNats(kind="teacher_nats", temperature=2.0),
    tuning.HiddenSquare(kind="hidden_square"),
    tuning.HiddenSquare(kind="hidden_square", normalise=False),
    tuning.Lipschitz(kind="lipschitz", weight=1.0, positions=6),
]


@pytest.fixture(params=RECORDS, ids=lambda record: record.kind)
def objective(request):
    return objective_of(request.param)


def draw(seed):
    return torch.Generator().manual_seed(seed)


def trace(seed, *, windows=3, dtype=torch.float64):
    generator = draw(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    labels = torch.randint(0, 11, (windows, 9), generator=generator)
    labels[:, -1] = -100
    return Trace(normal(windows, 9, 11), labels, {b: normal(windows, 9, 6) for b in (-1, 0, 1)})


def part(whole, rows):
    return Trace(whole.logits[rows], whole.labels[rows], {b: state[rows] for b, state in whole.hidden.items()})


def leaves(whole):
    return [whole.logits, *whole.hidden.values()]


def test_the_catalogue_serves_the_whole_menu():
    union = get_args(tuning.Objective)[0]
    assert set(OBJECTIVES) == set(get_args(union))
    for record in RECORDS:
        built = objective_of(record.model_copy(update={"weight": 0.3}))
        assert built.weight == 0.3
        assert built.kind == record.kind
        assert built.needs <= {"logits", "labels", "hidden"}


def test_a_distance_is_zero_when_the_student_is_the_teacher(objective):
    one = trace(0)
    loss = objective.loss(one, one, generator=draw(1))
    if objective.kind == "label_nats":
        assert loss > 0
    else:
        assert loss.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_losses_are_not_negative_and_gradients_finite(objective, dtype):
    student, teacher = trace(0, dtype=dtype), trace(1, dtype=dtype)
    loss = objective.loss(student, teacher, generator=draw(2))
    assert loss > 0
    loss.backward()
    gradients = [leaf.grad for leaf in leaves(student) if leaf.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(leaf.grad is None for leaf in leaves(teacher))


def test_the_gradient_is_that_of_finite_differences():
    student, teacher = trace(0, windows=1), trace(1, windows=1)
    for record in RECORDS:
        built = objective_of(record)
        if isinstance(built, Lipschitz):
            built = Lipschitz(power_steps=100)

        def loss(*states, built=built):
            changed = Trace(states[0], student.labels, dict(zip((-1, 0, 1), states[1:], strict=True)))
            return built.loss(changed, teacher, generator=draw(2))

        assert torch.autograd.gradcheck(loss, tuple(leaves(student)), atol=1e-4, fast_mode=True)


def test_the_loss_of_a_batch_is_the_mean_over_its_windows(objective):
    student, teacher = trace(0), trace(1)
    whole = objective.loss(student, teacher, generator=draw(2))
    rows = [slice(w, w + 1) for w in range(3)]
    alone = [objective.loss(part(student, r), part(teacher, r), generator=draw(2)) for r in rows]
    torch.testing.assert_close(whole, torch.stack(alone).mean())


def test_a_trace_that_lacks_something_is_refused(objective):
    with pytest.raises(ValueError, match="needs"):
        objective.loss(Trace(), Trace(), generator=draw(0))


def test_nats_are_those_of_the_formula():
    student, teacher = trace(0), trace(1)
    p, q = teacher.logits.softmax(-1), student.logits.softmax(-1)
    divergence = (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(TeacherNats().loss(student, teacher, generator=draw(0)), divergence)
    picked = q[:, :-1].gather(2, student.labels[:, :-1, None]).log()
    torch.testing.assert_close(LabelNats().loss(student, teacher, generator=draw(0)), -picked.mean())


def test_hidden_square_is_relative_to_the_teacher_and_leaves_the_input_out():
    teacher = trace(0)
    hidden = {b: 1.1 * state for b, state in teacher.hidden.items()} | {-1: torch.zeros(3, 9, 6, dtype=torch.float64)}
    loss = HiddenSquare().loss(Trace(hidden=hidden), teacher, generator=draw(0))
    assert loss.item() == pytest.approx(0.01)


def test_twice_the_gain_costs_the_square_of_log_two():
    teacher = trace(0)
    before, after = teacher.hidden[-1], teacher.hidden[0]
    student = Trace(hidden={-1: before, 0: before + 2 * (after - before)})
    loss = Lipschitz().loss(student, Trace(hidden={-1: before, 0: after}), generator=draw(1))
    assert loss.item() == pytest.approx(math.log(2) ** 2, rel=1e-4)


class Block(nn.Module):
    """A small pre-norm transformer block; its output weights carry the gain."""

    def __init__(self, width=16):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 32), nn.Linear(32, width)

    def forward(self, x):
        inside = self.norms[0](x)
        x = x + self.attention(inside, inside, inside, need_weights=False)[0]
        return x + self.down(torch.relu(self.up(self.norms[1](x))))


def test_the_term_brings_the_ratio_of_a_block_of_doubled_gain_back_towards_one():
    torch.manual_seed(0)
    teacher, student = Block(), Block()
    with torch.no_grad():
        teacher.down.weight.mul_(4)
        student.load_state_dict(teacher.state_dict())
        for linear in (student.attention.out_proj, student.down):
            linear.weight.mul_(2)
            linear.bias.mul_(2)
    x = torch.randn(4, 24, 16)
    target = Trace(hidden={-1: x, 0: teacher(x).detach()})
    objective = Lipschitz()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = objective.loss(Trace(hidden={-1: x, 0: student(x)}), target, generator=draw(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2) ** 2, rel=0.1)
    assert losses[-1] < 0.01 * losses[0]
