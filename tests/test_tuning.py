"""A whole model learns from its teacher, in one process or under Accelerate."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from lessons import draw, options, same, state
from liptt_cli.algebra.objectives.hidden_square import HiddenSquare
from liptt_cli.algebra.objectives.lipschitz import Lipschitz
from liptt_cli.algebra.objectives.teacher_nats import TeacherNats
from liptt_cli.formats.grid import Envelope, Grid
from liptt_cli.layers.surgery import thawed
from liptt_cli.menu import tuning as menu
from liptt_cli.tuning import finetune_model, make_accelerator
from liptt_cli.tuning_loop import Course

LINEARS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def sign_values(model):
    """Every second linear of the model as signs under a row scale."""
    values = {}
    for name, module in model.named_modules():
        if name.endswith(LINEARS):
            weight = module.weight.detach()
            rows = weight.abs().mean(1).half().reshape(1, 1, -1, 1)
            values[name] = Grid((weight >= 0).to(torch.uint8)[None], Envelope(rows, None, weight.shape[1]))
    return values


def finetune(directory, *, accelerator=None, recompute=False, **changes):
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
        course=Course(chosen, objectives, 0, accelerator=accelerator, recompute=recompute),
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


@pytest.mark.parametrize("accelerate", [False, True])
def test_blocks_that_run_again_in_the_backward_pass_change_no_number(tiny_llama, accelerate):
    plain = finetune(tiny_llama, steps=4)
    again = finetune(tiny_llama, steps=4, recompute=True, accelerator=make_accelerator() if accelerate else None)
    assert plain[0] == again[0]
    assert same(plain[2], again[2])
