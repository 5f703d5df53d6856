"""Which experts of a run saw too few tokens for moments of their own; `calibration.experts` filled these up."""

from collections.abc import Mapping
from typing import Any

from liptt_cli.models.blocks import Structure
from liptt_cli.planning.experts import place_of


def thin_experts(structure: Structure, linears: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Count the experts, those with fewer tokens than columns, and those with none; None if none were measured.

    Args:
        structure: of the model.
        linears: facts of each linear; those of experts that were measured have `tokens`.
    """
    shares: dict[tuple[str, int], float] = {}
    for site in structure.sites:
        place, tokens = place_of(site.name), linears.get(site.name, {}).get("tokens")
        if place is not None and tokens is not None:
            expert = (place.experts, place.number)
            shares[expert] = min(shares.get(expert, 1.0), tokens / site.shape[1])
    if not shares:
        return None
    thin, unseen = sum(share < 1 for share in shares.values()), sum(share == 0 for share in shares.values())
    told = (
        f"{thin} of {len(shares)} experts saw fewer tokens than their linears have columns, {unseen} of them none; "
        "what they lack is filled up with the mean over the experts of their block"
    )
    return {"experts": len(shares), "thin": thin, "unseen": unseen, "told": told}
