"""Where a model has its token embedding and its output head, and whether they can be rounded."""

from typing import Any

from torch import nn

from liptt_cli.errors import ModelError
from liptt_cli.models.shards import Shards
from liptt_cli.planning.tables import TableShape


def find_tables(model: Any, shards: Shards) -> tuple[TableShape, ...]:
    """Return embedding and head, one table if they are tied and stored once.

    Args:
        model: a causal language model of transformers; its parameters may be on meta.
        shards: its files.

    Raises:
        ModelError: if one is no plain embedding or linear, so that its rows are not all that it does.
    """
    try:
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError as error:
        raise ModelError(f"tables.bits: {type(model).__name__} does not tell its embedding; set it to null") from error
    paths = {module: path for path, module in model.named_modules()}
    for module, wanted in ((embedding, nn.Embedding), (head, nn.Linear)):
        if type(module) is not wanted or getattr(module, "max_norm", None) is not None:
            raise ModelError(
                f"tables.bits: {paths.get(module, 'the head')} of this model is {type(module).__name__}, not a plain "
                f"{wanted.__name__}, so it cannot be rounded yet; set it to null"
            )
    names = [paths[embedding], paths[head]]
    if head.weight is embedding.weight:
        names = [name for name in names if f"{name}.weight" in shards] or names[:1]
    shape = tuple(embedding.weight.shape)
    return tuple(
        TableShape(name, (shape[0], shape[1]), shape[0] * shape[1] * shards.dtype(f"{name}.weight").itemsize)
        for name in sorted(names)
    )
