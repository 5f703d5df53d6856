"""The form of a weight whose entries are of several kinds: labels say which part each entry comes from.

Zone 0 is all that the labels do not name. Every part keeps the shape and the column numbers of the whole, so that a
scale of columns means the same columns in each; its codes or values are stored compacted, row-major over its zone. A
part may be zones again, within its zone: then labels of entries are stored for these entries alone.

    column   sorted column numbers, the same in every row        counts: columns of zones 1, 2, ..
    index    sorted column numbers in each row, as many in each  counts: columns a row
    entry    the zone's number at each entry                     counts: entries
    group    the zone's number of each `run` columns             counts: none, `sizes` has the entries; a part whose
             groups of columns divide a run of more than one stores the scales of its own groups alone
    pattern  which `counts[0]` of each `run` entries are zone 1, as the rank among all such choices
"""

from dataclasses import dataclass, replace
from itertools import accumulate
from math import comb
from typing import Literal, Union

from liptt_cli.forms.base import Operations, Section
from liptt_cli.forms.leaves import DenseForm, GridForm, ZeroForm

Layout = Literal["column", "index", "entry", "group", "pattern"]
LAYOUTS: tuple[Layout, ...] = ("column", "index", "entry", "group", "pattern")
ZonePart = Union[ZeroForm, DenseForm, GridForm, "ZonesForm"]


@dataclass(frozen=True)
class ZonesForm:
    """`counts` are those of zones 1 and up; `parts` has one more, as has `sizes`: the entries of each zone.

    `sizes` is None where layout and counts tell it, which they do not for groups, nor for zones within a zone.
    """

    shape: tuple[int, int]
    layout: Layout
    counts: tuple[int, ...]
    parts: tuple[ZonePart, ...]
    run: int = 1
    sizes: tuple[int, ...] | None = None

    @property
    def entries(self) -> tuple[int, ...]:
        """Return the number of entries of each zone."""
        if self.sizes is not None:
            return self.sizes
        rows, columns = self.shape
        if self.layout == "pattern":
            rows = rows * columns // self.run
        named = [count if self.layout == "entry" else rows * count for count in self.counts]
        return (self.shape[0] * columns - sum(named), *named)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """Return where the column numbers of zones 1 and up start and stop along the last axis of the labels."""
        stops = list(accumulate(self.counts))
        return tuple((stop - count, stop) for stop, count in zip(stops, self.counts, strict=True))

    def labels(self) -> Section:
        """Return the section of the labels."""
        rows, columns = self.shape
        zone_bits = max(1, (len(self.parts) - 1).bit_length())
        if self.layout == "entry":
            return Section("labels", "index", self.shape if self.sizes is None else (1, sum(self.sizes)), zone_bits)
        if self.layout == "group":
            return Section("labels", "index", (1, -(-columns // self.run)), zone_bits)
        if self.layout == "pattern":
            bits = max(1, (comb(self.run, self.counts[0]) - 1).bit_length())
            return Section("labels", "index", (rows, columns // self.run), bits)
        named = (1 if self.layout == "column" else rows, sum(self.counts))
        return Section("labels", "index", named, max(1, (columns - 1).bit_length()))

    def sections(self) -> tuple[Section, ...]:
        """Return the labels, then the parts' sections."""
        found = [self.labels()]
        for k, (part, count) in enumerate(zip(self.parts, self.entries, strict=True)):
            sections = _compacted(part, count)
            if isinstance(part, GridForm):
                sections = tuple(self._of_own_groups(section, part, count) for section in sections)
            found += [section.inside(f"parts.{k}") for section in sections]
        return tuple(found)

    def has_own_groups(self, group_columns: int) -> bool:
        """Tell whether a part with scales of so many columns stores those of its own groups alone."""
        return self.layout == "group" and self.run > 1 and self.run % group_columns == 0

    def _of_own_groups(self, section: Section, part: GridForm, entries: int) -> Section:
        """Return a section of scales with the groups of a zone alone, where these are stored alone."""
        envelope = {"scale.rows": part.scale, "shift.rows": part.shift}.get(section.name)
        if envelope is None or not self.has_own_groups(envelope.group_columns):
            return section
        groups = -(-(entries // self.shape[0]) // envelope.group_columns)
        return replace(section, shape=(*section.shape[:-1], groups))

    def operations(self) -> Operations:
        """Return the cost of each part on the entries of its zone."""
        total = Operations(0, 0)
        for part, count in zip(self.parts, self.entries, strict=True):
            if isinstance(part, DenseForm):
                total += Operations(0, count)
            elif isinstance(part, ZonesForm):
                total += part.operations()
            elif isinstance(part, GridForm):
                each = replace(part, shape=(1, count), scale=None, shift=None).operations()
                total += Operations(part.sign_products * each.sign_additions, part.operations().multiplications)
        return total

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        found: dict[str, object] = {
            "node": "zones",
            "shape": list(self.shape),
            "layout": self.layout,
            "counts": list(self.counts),
            "parts": [part.to_json() for part in self.parts],
        }
        if self.layout in ("group", "pattern"):
            found["run"] = self.run
        return found if self.sizes is None else found | {"sizes": list(self.sizes)}


def share_count(share: float, columns: int) -> int:
    """Return how many of the columns a share is: at least one, and never all."""
    return min(max(1, round(share * columns)), max(1, columns - 1))


def sparse_form(shape: tuple[int, int], *, whole_columns: bool, count: int, part: DenseForm | GridForm) -> ZonesForm:
    """Return the form of a weight that is zero but for `count` whole columns, or `count` entries of each row.

    Entries are told by the cheaper of `index` and `entry`.
    """
    parts = (ZeroForm(shape), part)
    if whole_columns:
        return ZonesForm(shape, "column", (count,), parts)
    named = ZonesForm(shape, "index", (count,), parts)
    marked = ZonesForm(shape, "entry", (shape[0] * count,), parts)
    return min(named, marked, key=lambda form: form.labels().bytes)


def _compacted(part: ZonePart, count: int) -> tuple[Section, ...]:
    """Return a part's sections with one entry for each of its zone's, where they had one for each of the weight's."""
    if isinstance(part, ZonesForm):
        return part.sections()
    return tuple(
        replace(section, shape=(*section.shape[:-2], 1, count)) if section.name in ("codes", "values") else section
        for section in part.sections()
    )
