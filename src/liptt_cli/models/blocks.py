"""What a transformer is made of, found by structure and by running it: its blocks, and the linears inside.

No class name is looked at. The blocks are the `nn.ModuleList` whose items hold the most parameters in linears; linears
that receive the very same tensor share their input, which is seen by running a block once. So a renamed or home-made
architecture works like a known one. Only roles go by the leaf's name, because nothing else tells a query from a key.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from liptt_cli.errors import ConfigError, Fault, ModelError
from liptt_cli.planning.coverage import Coverage, Named, named
from liptt_cli.planning.experts import routers_among

ROLES = {
    "query": ("q_proj", "query", "query_proj", "wq", "q"),
    "key": ("k_proj", "key", "key_proj", "wk", "k"),
    "value": ("v_proj", "value", "value_proj", "wv", "v"),
    "output": ("o_proj", "out_proj", "wo", "o"),
    "gate": ("gate_proj", "w1"),
    "up": ("up_proj", "up", "fc1", "fc_in", "w3"),
    "down": ("down_proj", "down", "fc2", "fc_out", "w2"),
}
ROLE_OF_LEAF = {leaf: role for role, leaves in ROLES.items() for leaf in leaves}


@dataclass(frozen=True)
class Site:
    """One linear of a block: the place where a compressed weight will stand.

    Sites of one block with an equal `group` share their input; groups are numbered in call order, from 0 in each block.
    """

    name: str
    role: str
    block: int
    shape: tuple[int, int]
    bias: bool
    group: int

    @property
    def weights(self) -> int:
        """How many weights the linear holds, its bias left out."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Structure:
    """The blocks of a model, the sites in them, in call order, and the matrices in them that are no sites."""

    block_path: str
    blocks: int
    sites: tuple[Site, ...]
    left_out: Named

    @property
    def coverage(self) -> Coverage:
        """How much of the blocks' matrices the sites hold."""
        return Coverage(sum(site.weights for site in self.sites), self.left_out)

    def block_name(self, block: int) -> str:
        """Return the module path of a block, `model.layers.3`."""
        return f"{self.block_path}.{block}"

    def groups(self, block: int) -> tuple[tuple[Site, ...], ...]:
        """Return the sites of a block by shared input, in call order."""
        found: dict[int, list[Site]] = {}
        for site in self.sites:
            if site.block == block:
                found.setdefault(site.group, []).append(site)
        return tuple(tuple(found[number]) for number in sorted(found))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for a JSON file."""
        return {**asdict(self), "sites": [{**asdict(site), "shape": list(site.shape)} for site in self.sites]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Structure":
        """Rebuild from what `to_json` gave."""
        sites = tuple(Site(**{**site, "shape": tuple(site["shape"])}) for site in values["sites"])
        left_out = tuple((name, count) for name, count in values["left_out"])
        return cls(**{**values, "sites": sites, "left_out": left_out})


def find_block_list(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the list of transformer blocks: the `nn.ModuleList` whose items hold the most parameters in linears.

    Lists of bare linears are no blocks. Where two lists hold equally much (one wraps the other), the one with more
    items is taken, then the outer and earlier one.

    Raises:
        ModelError: if no list holds a block with linears.
    """
    lists = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    sizes = [(_linear_parameters(module), len(module)) for _, module in lists]
    best = max(range(len(lists)), key=lambda index: (*sizes[index], -index), default=None)
    if best is None or sizes[best][0] == 0:
        raise ModelError(
            f"{type(model).__name__}: found no transformer blocks; looked for an nn.ModuleList whose items contain "
            f"nn.Linear and saw {[path for path, _ in lists] or 'no nn.ModuleList at all'}. A model that keeps its "
            "blocks or weights otherwise cannot be compressed yet."
        )
    return lists[best]


def linears(block: nn.Module) -> dict[str, nn.Linear]:
    """Return the linears of a block by their path inside it, in the order of definition; routers are none."""
    found = {path: module for path, module in block.named_modules() if isinstance(module, nn.Linear)}
    routers = routers_among(found)
    return {path: linear for path, linear in found.items() if path not in routers}


def shared_inputs(block: nn.Module, run: Callable[[nn.Module], object]) -> dict[str, int]:
    """Run a block once and number its linears by the input tensor they receive, in call order.

    Linears that the run never reached (experts that were not chosen) follow, each with a number of its own.

    Args:
        block: any module.
        run: calls the block once on a tiny input.
    """
    paths = linears(block)
    inputs: list[Tensor] = []  # holding them keeps identities from being used again
    groups: dict[str, int] = {}

    def watch(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def see(_module: nn.Module, args: tuple[Any, ...]) -> None:
            known = next((number for number, value in enumerate(inputs) if value is args[0]), len(inputs))
            if known == len(inputs):
                inputs.append(args[0])
            groups.setdefault(path, known)

        return see

    handles = [module.register_forward_pre_hook(watch(path)) for path, module in paths.items()]
    try:
        run(block)
    finally:
        for handle in handles:
            handle.remove()
    numbers = {number: rank for rank, number in enumerate(dict.fromkeys(groups.values()))}
    ordered = {path: numbers[number] for path, number in groups.items()}
    unseen = [path for path in paths if path not in ordered]
    return ordered | {path: len(numbers) + extra for extra, path in enumerate(unseen)}


def describe(model: nn.Module, run: Callable[[int, nn.Module], object]) -> Structure:
    """Describe a model's blocks and sites.

    Args:
        model: its parameters may be on meta.
        run: calls the block of the given number once on a tiny input; asked once for each distinct layout of linears.

    Raises:
        ModelError: if no blocks are found.
    """
    block_path, blocks = find_block_list(model)
    groups_of: dict[tuple[tuple[str, int, int], ...], dict[str, int]] = {}
    sites: list[Site] = []
    for number, block in enumerate(blocks):
        inside = linears(block)
        layout = tuple((path, linear.out_features, linear.in_features) for path, linear in inside.items())
        if layout not in groups_of:
            groups_of[layout] = shared_inputs(block, partial(run, number))
        by_call = sorted(groups_of[layout].items(), key=lambda item: item[1])
        sites += [_site(f"{block_path}.{number}.{path}", number, inside[path], group) for path, group in by_call]
    return Structure(block_path, len(blocks), tuple(sites), _others(f"{block_path}.", blocks, sites))


def select(structure: Structure, include: Sequence[str], skip: Sequence[str]) -> Structure:
    """Keep the sites whose name matches a glob of `include` and none of `skip`; groups keep their numbers.

    Raises:
        ConfigError: naming every glob without a match, or saying that nothing is left.
    """
    names = [site.name for site in structure.sites]
    idle = [
        Fault(key, f"{glob!r} matches none of the {len(names)} linears; {_hint(structure, glob)}")
        for key, globs in (("load.include", include), ("load.skip", skip))
        for glob in globs
        if not any(fnmatch.fnmatchcase(name, glob) for name in names)
    ]
    if idle:
        raise ConfigError(*idle)
    kept = tuple(site for site in structure.sites if _matches(site.name, include) and not _matches(site.name, skip))
    if not kept:
        raise ConfigError(
            Fault("load.skip", f"{list(skip)} skips every linear that load.include keeps; nothing is left")
        )
    held = {site.name for site in kept}
    skipped = [(site.name, site.weights) for site in structure.sites if site.name not in held]
    return replace(structure, sites=kept, left_out=named([*structure.left_out, *skipped]))


def _linear_parameters(blocks: nn.ModuleList) -> int:
    inner = (module for block in blocks if not isinstance(block, nn.Linear) for module in block.modules())
    unique = {id(module): module for module in inner if isinstance(module, nn.Linear)}
    return sum(module.weight.numel() for module in unique.values())


def _hint(structure: Structure, glob: str) -> str:
    """Say what a glob without a match may have meant."""
    dense = next((name for name, _ in structure.left_out if fnmatch.fnmatchcase(name, glob)), None)
    if dense is not None:
        return f"{dense} is a router or no linear, and always stays dense"
    return f"their names look like {structure.sites[0].name!r}"


def _others(prefix: str, blocks: nn.ModuleList, sites: Sequence[Site]) -> Named:
    """Return the matrices of the blocks that no site holds."""
    held = {site.name for site in sites}
    found = {
        f"{prefix}{name}".removesuffix(".weight"): parameter.numel()
        for name, parameter in blocks.named_parameters()
        if parameter.ndim > 1
    }
    return named((name, count) for name, count in found.items() if name not in held)


def _site(name: str, block: int, linear: nn.Linear, group: int) -> Site:
    leaf = name.rpartition(".")[2]
    shape = (linear.out_features, linear.in_features)
    return Site(name, ROLE_OF_LEAF.get(leaf, leaf), block, shape, linear.bias is not None, group)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)
