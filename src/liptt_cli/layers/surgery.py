"""Replace modules by their path, and choose what of a model trains."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from liptt_cli.formats.base import Stored
from liptt_cli.layers.trainable import Groups, TrainableLinear, thaw
from liptt_cli.menu.tuning import Tuning


def get_module(model: nn.Module, name: str) -> nn.Module:
    """Return the module at a dotted path; the empty path is the model.

    Raises:
        KeyError: if there is none.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise KeyError(f"no module {name!r} in {type(model).__name__}") from None


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` at a dotted path of the model, in place."""
    get_module(model, name)
    model.set_submodule(name, module)


def thawed(
    model: nn.Module,
    values: Mapping[str, Stored],
    *,
    tuning: Tuning,
    sources: Mapping[str, Sequence[Tensor]] | None = None,
) -> dict[str, TrainableLinear]:
    """Put a trainable linear in the place of each named linear, in place, and return them by name.

    The bias is that of the module replaced.
    """
    found = {}
    for name, value in values.items():
        bias = getattr(get_module(model, name), "bias", None)
        source = (sources or {}).get(name)
        found[name] = thaw(value, options=tuning.latent, train=tuning.train, bias=bias, sources=source)
        replace_module(model, name, found[name])
    return found


def trained_groups(model: nn.Module, train: Collection[str]) -> Groups:
    """Freeze all of the model but the groups in `train`, in place, and return these by name.

    Codes, scales and weights are those of trainable linears; norms are the parameters of modules that hold
    nothing but vectors.
    """
    found: Groups = {"codes": [], "scales": [], "norms": [], "weights": []}
    inside: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, TrainableLinear):
            inside.update(module.modules())
            for group, parameters in module.groups().items():
                found[group] += parameters
        elif module not in inside:
            found["norms"] += _vectors(module)
    model.requires_grad_(False)
    chosen = {group: parameters for group, parameters in found.items() if group in train and parameters}
    for parameters in chosen.values():
        for parameter in parameters:
            parameter.requires_grad_(True)
    return chosen


def _vectors(module: nn.Module) -> list[nn.Parameter]:
    own = list(module.parameters(recurse=False))
    vectors = all(parameter.ndim == 1 and parameter.is_floating_point() for parameter in own)
    return own if vectors and not list(module.children()) else []


def trained_outside(model: nn.Module, linears: Collection[str], *, prefix: str = "") -> dict[str, Tensor]:
    """Return the parameters that trained and belong to none of the named linears, under `prefix` + name."""
    inside = tuple(f"{name}." for name in linears)
    return {
        f"{prefix}{name}": parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith(inside)
    }
