"""Adam over the trained groups of a model, and how its learning rates run over the steps.

Kingma & Ba 2014, arXiv:1412.6980; weight decay is decoupled (Loshchilov & Hutter 2017, arXiv:1711.05101) and falls on
codes and weights only: a scale or a norm has nothing to gain from zero.
"""

import math
from typing import Any

import torch
from torch import nn

from liptt_cli.errors import ConfigError
from liptt_cli.layers.surgery import trained_groups
from liptt_cli.menu.tuning import Tuning

_EPSILON = 1e-12  # of Adam: a code's gradient is one of millions, far below the usual 1e-8
_DECAYED = ("codes", "weights")


def make_optimizer(module: nn.Module, options: Tuning) -> torch.optim.Optimizer:
    """Return Adam over the groups of `options.train`, freezing the rest of the module in place.

    Signs that flip by themselves train without it.

    Raises:
        ConfigError: if the module has none of these groups.
    """
    groups = trained_groups(module, options.train)
    if not groups:
        raise ConfigError(f"train: the model has nothing to train among {', '.join(options.train)}")
    rates = options.learning_rate.model_dump()
    records: list[dict[str, Any]] = [
        {
            "name": name,
            "params": [] if name == "codes" and options.latent.kind == "flips" else parameters,
            "lr": rates[name],
            "rate": rates[name],
            "weight_decay": options.weight_decay if name in _DECAYED else 0.0,
        }
        for name, parameters in groups.items()
    ]
    return torch.optim.AdamW(records, betas=(options.betas[0], options.betas[1]), eps=_EPSILON)


def rate_share(step: int, options: Tuning) -> float:
    """Return the share of the learning rate at a step: up to 1 over the warm-up, then by the schedule."""
    warmup_steps = math.ceil(options.warmup_share * options.steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / (options.steps - warmup_steps)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[options.schedule]
