"""Orders of a weight's columns, as pure functions of the values and the metric: the old number of each column.

activation   the largest mean square of the inputs first
similarity   groups of alike columns: again and again the `group_columns` columns nearest in angle to the mean of those
             that are left (structural similarity reordering of PT2-LLM, arXiv:2510.03267)
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from liptt_cli.algebra.metric import Metric, diagonal

Order = Callable[[Float[Tensor, "out in"], Metric, int], Int64[Tensor, " in"]]


def activation(weight: Float[Tensor, "out in"], metric: Metric, group_columns: int) -> Int64[Tensor, " in"]:
    """Return the columns by what their inputs weigh, descending; as they are without a metric."""
    if metric.cols is None:
        return torch.arange(weight.shape[1], device=weight.device)
    return diagonal(metric.cols).argsort(descending=True, stable=True)


def similarity(weight: Float[Tensor, "out in"], metric: Metric, group_columns: int) -> Int64[Tensor, " in"]:
    """Return the columns group by group, those of a group as they stood."""
    lengths = torch.linalg.vector_norm(weight, dim=0)
    lengths = torch.where(lengths > 0, lengths, 1.0)
    total, left, found = weight.sum(1), weight.shape[1], []
    taken = torch.zeros_like(lengths, dtype=torch.bool)
    while left:
        near = torch.where(taken, -torch.inf, total @ weight / lengths)
        chosen = near.argsort(descending=True, stable=True)[: min(group_columns, left)].sort().values
        found.append(chosen)
        taken[chosen] = True
        total = total - weight[:, chosen].sum(1)
        left -= len(chosen)
    return torch.cat(found)


ORDERS: dict[str, Order] = {"activation": activation, "similarity": similarity}
