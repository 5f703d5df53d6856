"""The price of a run before it is paid: a form for each linear, and what they add up to.

Torch-free. The compression itself takes its forms from `structure`, so a plan's bytes are the file's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from liptt_cli.errors import BudgetError, ShapeError
from liptt_cli.forms.base import Form, Operations, bits_per_weight, blob_bytes
from liptt_cli.forms.sum import inner_ranks
from liptt_cli.menu.decompose import Knapsack
from liptt_cli.menu.run import RunConfig
from liptt_cli.planning.allocate import allocate as by_evidence
from liptt_cli.planning.allocate import cost_of, offers_of, refuse_out_of_reach
from liptt_cli.planning.coverage import Coverage, named
from liptt_cli.planning.evidence import Evidence
from liptt_cli.planning.price import Ladder, ladder
from liptt_cli.planning.sites import ModelShape, SiteShape, select
from liptt_cli.planning.tables import saved_bytes, table_forms
from liptt_cli.planning.uniform import allocate

_HEADER_BYTES_A_TENSOR = 200
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """A form for each linear, the bytes of all that is kept beside them, and the totals of the report.

    `tables` are the forms of embedding and head if they are rounded; their bytes are among the kept ones.
    """

    model: ModelShape
    forms: dict[str, Form]
    kept_bytes: int
    predicted_costs: tuple[float, float] | None = None  # by evidence: of these forms, and of the uniform split
    tables: dict[str, Form] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[SiteShape, ...]:
        """Return the sites that are compressed."""
        return tuple(site for site in self.model.sites if site.name in self.forms)

    @property
    def weights(self) -> int:
        """Return the number of weights replaced."""
        return sum(site.weights for site in self.sites)

    @property
    def coverage(self) -> Coverage:
        """Return how much of the blocks' matrices is compressed."""
        skipped = [(site.name, site.weights) for site in self.model.sites if site.name not in self.forms]
        return Coverage(self.weights, named([*self.model.left_out, *skipped]))

    @property
    def payload_bytes(self) -> int:
        """Return the bytes of all blobs."""
        return sum(blob_bytes(form) for form in self.forms.values())

    @property
    def bits_per_weight(self) -> float:
        """Return the honest bits: 8 x payload bytes over the weights replaced."""
        return 8 * self.payload_bytes / self.weights

    @property
    def table_bytes(self) -> int:
        """Return the bytes of embedding and head: rounded, or as in the source."""
        dense = sum(table.dense_bytes for table in self.model.tables if table.name not in self.tables)
        return dense + sum(blob_bytes(form) for form in self.tables.values())

    @property
    def tensor_bytes(self) -> int:
        """Return the bytes of all tensors of the packed model; file headers come on top."""
        return self.kept_bytes + self.payload_bytes

    @property
    def operations(self) -> Operations:
        """Return the cost of one token in the compressed linears."""
        return sum((form.operations() for form in self.forms.values()), Operations(0, 0))

    def memory_bytes(self, *, tokens: int, width: int) -> int:
        """Return an estimate of the peak: the largest block four times, and two streams of activations."""
        blocks: dict[int, int] = {}
        for site in self.model.sites:
            blocks[site.block] = blocks.get(site.block, 0) + site.weights
        return _FLOAT_BYTES * (4 * max(blocks.values()) + 3 * tokens * width) + self.model.other_bytes

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a linear."""
        return [_row(site, self.forms[site.name]) for site in self.sites]


def chosen_sites(config: RunConfig, model: ModelShape) -> tuple[SiteShape, ...]:
    """Return the sites that `load.include` and `load.skip` leave.

    Raises:
        ConfigError: if a glob matches nothing.
    """
    names = select([s.name for s in model.sites], include=config.load.include, skip=config.load.skip)
    return tuple(site for site in model.sites if site.name in names)


def with_rates(config: RunConfig, model: ModelShape, sites: Sequence[SiteShape]) -> RunConfig:
    """Return the configuration with a knapsack's rates in bits per weight, whatever unit they were given in."""
    allocator = config.decompose.allocator
    budget = _budget_bytes(config, model, _kept_bytes(config, model, sites), sites=sites)
    if not isinstance(allocator, Knapsack) or allocator.at_unit == "bits" or budget is None:
        return config
    bits = 8 * max(budget, 0) / sum(site.weights for site in sites)
    at_bits = [round(share * bits, 6) for share in allocator.at_bits]
    absolute = allocator.model_copy(update={"at_bits": at_bits, "at_unit": "bits"})
    return config.model_copy(update={"decompose": config.decompose.model_copy(update={"allocator": absolute})})


def structure(
    config: RunConfig, model: ModelShape, sites: Sequence[SiteShape], *, evidence: Evidence | None = None
) -> Plan:
    """Give each of the chosen sites its form under the configuration's dial.

    A knapsack chooses by evidence, which `evidence.check` has seen; without any the forms are the uniform split, whose
    totals are the same to within one step of one linear.

    Raises:
        ShapeError: if a linear does not factor as asked; the message begins with its name.
        BudgetError: if the dial cannot be met, or the recipe has none.
    """
    ladders = _ladders(config, sites)
    kept_bytes = _kept_bytes(config, model, sites)
    beside: dict[str, Any] = {"kept_bytes": kept_bytes, "tables": table_forms(config.tables, model.tables)}
    budget = _budget_bytes(config, model, kept_bytes, sites=sites)
    if budget is None:
        return Plan(model, {site.name: ladders[site.shape].forms[0] for site in sites}, **beside)
    smallest = sum(ladders[site.shape].bytes[0] for site in sites)
    if smallest > budget:
        raise BudgetError(_too_little(config, smallest, other_bytes=_other_bytes(model, kept_bytes), sites=sites))
    uniform, config = allocate(sites, ladders, budget_bytes=budget), with_rates(config, model, sites)
    if not isinstance(config.decompose.allocator, Knapsack):
        return Plan(model, uniform, **beside)
    if evidence is None:
        refuse_out_of_reach(offers_of(config, sites), sites, budget_bytes=budget)
        return Plan(model, uniform, **beside)
    forms, cost = by_evidence(config, sites, evidence, budget_bytes=budget)
    return Plan(model, forms, predicted_costs=(cost, cost_of(evidence, sites, uniform)), **beside)


def _ladders(config: RunConfig, sites: Sequence[SiteShape]) -> dict[tuple[int, int], Ladder]:
    found: dict[tuple[int, int], Ladder] = {}
    for site in sites:
        if site.shape not in found:
            try:
                found[site.shape] = ladder(config, site.shape)
            except ShapeError as error:
                raise ShapeError(f"{site.name}: {error}") from error
    return found


def _kept_bytes(config: RunConfig, model: ModelShape, sites: Sequence[SiteShape]) -> int:
    """Return the bytes of all but compressed linears: as in the source, but norms that trained are kept in float32."""
    kept, binarize = model.dense_bytes - saved_bytes(config.tables, model.tables), config.binarize
    kept -= model.site_dtype_bytes * sum(site.weights for site in sites)
    trained = any(each.trains and "norms" in each.train for each in (binarize.rest, binarize.codes, config.finetune))
    return kept + trained * max(0, _FLOAT_BYTES - model.site_dtype_bytes) * model.norm_entries


def _other_bytes(model: ModelShape, kept_bytes: int) -> int:
    """Return what the weight files hold beside the blobs, their headers generously."""
    return kept_bytes + _HEADER_BYTES_A_TENSOR * (len(model.sites) + model.other_tensors)


def _budget_bytes(config: RunConfig, model: ModelShape, kept_bytes: int, *, sites: Sequence[SiteShape]) -> int | None:
    if config.bits_per_weight is not None:
        return int(Fraction(str(config.bits_per_weight)) * sum(site.weights for site in sites) / 8)
    if config.target_size is not None:
        return config.target_size - _other_bytes(model, kept_bytes)
    return None


def _too_little(config: RunConfig, smallest: int, *, other_bytes: int, sites: Sequence[SiteShape]) -> str:
    """Say which dial cannot be met, and the smallest figure that can, rounded up so that it really can."""
    weights = sum(site.weights for site in sites)
    if config.target_size is not None:
        return (
            f"target_size: {config.target_size:,} bytes cannot be met by this recipe on this model; the smallest that "
            f"can is {other_bytes + smallest} ({smallest:,} bytes for {weights:,} weights; embeddings, head, norms and "
            f"headers take {other_bytes:,}). Raise it, or choose a recipe with cheaper scales"
        )
    return (
        f"bits_per_weight: {config.bits_per_weight:.4g} cannot be met by this recipe on this model; the smallest that "
        f"can is {-(-80_000 * smallest // weights) / 10_000:.4f} ({smallest:,} bytes for {weights:,} weights). Raise "
        "the dial, or choose a recipe with cheaper scales"
    )


def _row(site: SiteShape, form: Form) -> dict[str, Any]:
    data = form.to_json()
    return {
        "linear": site.name,
        "shape": list(site.shape),
        "node": data["node"],
        "out_modes": data.get("out_modes"),
        "in_modes": data.get("in_modes"),
        "ranks": list(inner_ranks(form)) or None,
        "bits_per_weight": bits_per_weight(form),
        "bytes": blob_bytes(form),
    }
