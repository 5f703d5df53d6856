"""In which order the linears of a block are compressed, and which of them at once.

    shared     those that share an input, together, in call order
    a list     one linear after the other, role by role; the list names all roles of the model, and no other

A turn is what is compressed at once: its linears see the same inputs.
"""

from collections.abc import Sequence
from typing import Literal

from liptt_cli.errors import ConfigError, Fault
from liptt_cli.models.blocks import Site, Structure
from liptt_cli.planning.experts import pool_of

Order = Literal["shared"] | Sequence[str]


def turns(structure: Structure, block: int, *, order: Order) -> tuple[tuple[Site, ...], ...]:
    """Return the linears of a block in the order of their compression, those of one turn together."""
    if order == "shared":
        return structure.groups(block)
    sites = [site for group in structure.groups(block) for site in group]
    return tuple((site,) for role in order for site in sites if site.role == role)


def alike(structure: Structure, site: Site) -> tuple[tuple[Site, ...], ...]:
    """Return the groups at the site's place of all experts of its block, in order; its own group if it is of none.

    What becomes of one of them moves what none of the others sees.
    """
    groups, pool = structure.groups(site.block), pool_of(site.name)
    if pool is None:
        return tuple(group for group in groups if group[0].group == site.group)
    pools = {pool_of(each.name) for group in groups for each in group if group[0].group == site.group}
    return tuple(group for group in groups if pool_of(group[0].name) in pools)


def refuse_unfit_roles(structure: Structure, *, order: Order, before: Literal["all"] | Sequence[str]) -> None:
    """Refuse an order, or turns that the rest is trained before, that do not fit the model.

    Raises:
        ConfigError: naming every role that no linear has, and every linear whose role an order leaves out.
    """
    roles: dict[str, str] = {}
    for site in structure.sites:
        roles.setdefault(site.role, site.name)
    found = []
    for key, named in (("binarize.order", order), ("binarize.rest.before", before)):
        wanted = [] if isinstance(named, str) else list(named)
        found += [(key, f'no linear has the role "{role}"') for role in wanted if role not in roles]
    if order != "shared":
        left = [role for role in roles if role not in order]
        found += [("binarize.order", f'{roles[role]} has the role "{role}", which is not in the list') for role in left]
    if found:
        known = f"; the roles here are {', '.join(roles)}"
        raise ConfigError(*(Fault(key, message + known) for key, message in found))
