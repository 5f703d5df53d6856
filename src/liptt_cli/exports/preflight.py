"""Whether what a configuration wants to export can be written at all, told before anything is compressed. Torch-free.

A configuration alone says what kind of weight it makes; with the model's linears, each is told. What its directory
says of family and tokenizer is in model_check.py.
"""

import importlib.util
from math import prod

from liptt_cli.errors import ConfigError, Fault, MissingExtra, ShapeError
from liptt_cli.exports.targets import ANY_LINEAR, TARGETS, Forms, Name, Wishes, carried_by
from liptt_cli.menu.decompose import Modes, TensorTrain
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.price import ladder

_ANY = 256  # rows and columns that every scale and every block type fits


def wishes_of(config: RunConfig, name: Name) -> Wishes:
    """Return what a configuration says of one of its exports."""
    said = config.export
    if name == "gguf":
        return Wishes(said.gguf_type, said.gguf_tables, allow_densify=said.allow_densify)
    return Wishes(dtype=said.dtype if name == "hf" else None, allow_densify=said.allow_densify)


def refuse_kind(config: RunConfig) -> None:
    """Refuse a target that holds nothing of what a recipe makes, whatever the model.

    Raises:
        ConfigError: with what would do.
    """
    try:
        form = ladder(config, _shape(config)).forms[0]
    except ShapeError:
        return  # only the model's own shapes can tell
    refuse_forms(config, {ANY_LINEAR: form})


def refuse_forms(config: RunConfig, forms: Forms) -> None:
    """Refuse a target that does not hold these linears exactly, unless the configuration allows it.

    Raises:
        ConfigError: with what would do.
    """
    for name in config.export.to:
        try:
            carried_by(name, forms, wishes_of(config, name))
        except ConfigError as error:
            raise ConfigError(*(Fault("export.to", fault.message) for fault in error.faults)) from None


def require_package(name: Name) -> None:
    """Refuse a target whose package is not installed.

    Raises:
        MissingExtra: naming what to install.
    """
    package = TARGETS[name].package
    if package is not None and importlib.util.find_spec(package) is None:
        raise MissingExtra(f"--to {name} needs a package that is not installed: pip install 'liptt[{name}]'")


def _shape(config: RunConfig) -> tuple[int, int]:
    """Return the shape of a linear that the recipe fits, whichever model there will be."""
    factor = config.decompose.factor
    named = factor.modes if isinstance(factor, TensorTrain) else None
    return (prod(named.out), prod(named.into)) if isinstance(named, Modes) else (_ANY, _ANY)
