"""How many experts of a run saw too little."""

from liptt_cli.models.blocks import Site, Structure
from liptt_cli.stages.thin_experts import thin_experts

COLUMNS = {"gate": 8, "up": 8, "down": 4}
SITES = tuple(
    Site(f"m.0.mlp.experts.{number}.{leaf}", leaf, 0, (4, columns), False, 0)
    for number in range(3)
    for leaf, columns in COLUMNS.items()
)
STRUCTURE = Structure("m", 1, (Site("m.0.q_proj", "query", 0, (4, 4), False, 0), *SITES), ())


def test_an_expert_is_thin_by_its_widest_linear():
    tokens = {0: 8, 1: 7, 2: 0}
    linears = {site.name: {"tokens": tokens[int(site.name.split(".")[4])]} for site in SITES}
    found = thin_experts(STRUCTURE, linears | {"m.0.q_proj": {}})
    assert found is not None
    assert (found["experts"], found["thin"], found["unseen"]) == (3, 2, 1)
    assert found["told"].startswith("2 of 3 experts saw fewer tokens than their linears have columns, 1 of them none;")


def test_nothing_is_told_where_nothing_was_measured():
    assert thin_experts(STRUCTURE, {site.name: {"error": 0.3} for site in SITES}) is None
