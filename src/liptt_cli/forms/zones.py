"""The form of a weight whose entries are of several kinds: labels say which part each entry comes from.

Zone 0 is all that the labels do not name. Every part keeps the shape and the column numbers of the whole, so that a
scale of columns means the same columns in each; its codes or values are stored compacted, row-major over its zone.

    column   sorted column numbers, the same in every row        counts: columns of zones 1, 2, ..
    index    sorted column numbers in each row, as many in each  counts: columns a row
    entry    the zone's number at each entry                     counts: entries
"""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from liptt_cli.forms.base import Operations, Section
from liptt_cli.forms.leaves import DenseForm, GridForm, ZeroForm

Layout = Literal["column", "index", "entry"]
LAYOUTS: tuple[Layout, ...] = ("column", "index", "entry")


@dataclass(frozen=True)
class ZonesForm:
    """`counts` are those of zones 1 and up; `parts` has one more."""

    shape: tuple[int, int]
    layout: Layout
    counts: tuple[int, ...]
    parts: tuple[ZeroForm | DenseForm | GridForm, ...]

    @property
    def entries(self) -> tuple[int, ...]:
        """Return the number of entries of each zone."""
        rows, columns = self.shape
        named = [count if self.layout == "entry" else rows * count for count in self.counts]
        return (rows * columns - sum(named), *named)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """Return where the column numbers of zones 1 and up start and stop along the last axis of the labels."""
        stops = list(accumulate(self.counts))
        return tuple((stop - count, stop) for stop, count in zip(stops, self.counts, strict=True))

    def labels(self) -> Section:
        """Return the section of the labels."""
        rows, columns = self.shape
        if self.layout == "entry":
            return Section("labels", "index", self.shape, len(self.counts).bit_length())
        named = (1 if self.layout == "column" else rows, sum(self.counts))
        return Section("labels", "index", named, max(1, (columns - 1).bit_length()))

    def sections(self) -> tuple[Section, ...]:
        """Return the labels, then the parts' sections."""
        found = [self.labels()]
        for k, (part, count) in enumerate(zip(self.parts, self.entries, strict=True)):
            found += [_compacted(section, count).inside(f"parts.{k}") for section in part.sections()]
        return tuple(found)

    def operations(self) -> Operations:
        """Return the cost of each part on the entries of its zone."""
        total = Operations(0, 0)
        for part, count in zip(self.parts, self.entries, strict=True):
            if isinstance(part, DenseForm):
                total += Operations(0, count)
            elif isinstance(part, GridForm):
                each = replace(part, shape=(1, count), scale=None, shift=None).operations()
                total += Operations(part.sign_products * each.sign_additions, part.operations().multiplications)
        return total

    def to_json(self) -> dict[str, object]:
        """Return the form as JSON."""
        return {
            "node": "zones",
            "shape": list(self.shape),
            "layout": self.layout,
            "counts": list(self.counts),
            "parts": [part.to_json() for part in self.parts],
        }


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


def _compacted(section: Section, count: int) -> Section:
    """Return the section with one entry for each of a zone's, where it had one for each of the weight's."""
    if section.name not in ("codes", "values"):
        return section
    return replace(section, shape=(*section.shape[:-2], 1, count))
