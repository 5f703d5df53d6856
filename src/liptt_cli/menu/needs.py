"""What a configuration asks to be measured before the walk."""

from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.menu.tuning import weighs_by_gradient


def needs_gradients(config: RunConfig) -> bool:
    """Say whether anything asks for the squared gradients of the linears' outputs."""
    weighed = any(weighs_by_gradient(tuning) for tuning in (config.binarize.rest, config.binarize.codes))
    allocator = config.decompose.allocator
    allocated = isinstance(allocator, Knapsack) and allocator.weight_by == "gradient"
    return config.binarize.metric.rows != "none" or weighed or allocated
