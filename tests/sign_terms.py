"""Sign products for the tests of the kernels: terms of any shape, and what they mean in float64."""

import torch

from drawn import seeded
from liptt_cli.kernels.terms import Term


def term(rows, columns, *, group=None, cols=False, seed=0):
    """A term with a scale of float16 for each row, or each row and group of columns."""
    generator = seeded(seed)
    codes = torch.rand(rows, columns, generator=generator) > 0.5
    group = group or columns
    ends = tuple(min(columns, start + group) for start in range(0, columns, group))
    numbers = (torch.rand(rows, len(ends), generator=generator) + 0.1).half()
    factors = torch.rand(columns, generator=generator) + 0.1 if cols else None
    if len(ends) > 1:
        return Term(codes, ends, numbers, None, factors)
    return Term(codes, ends, None, numbers[:, 0].float(), factors)


def dense(found):
    """Return a term's matrix in float64, over the columns of its input if these follow each other."""
    matrix = found.codes.double() * 2 - 1
    if found.scales is not None:
        starts = (0, *found.group_ends[:-1])
        widths = [end - start for start, end in zip(starts, found.group_ends, strict=True)]
        matrix = matrix * found.scales.double().repeat_interleave(torch.tensor(widths), dim=1)
    matrix = matrix if found.rows is None else matrix * found.rows.double()[:, None]
    return matrix if found.cols is None else matrix * found.cols.double()


def meaning(found, x):
    """Return a term's product with x in float64."""
    return (x.double() if found.gather is None else x.double()[:, found.gather]) @ dense(found).T


def error(found, wanted):
    """Return the size of the difference over that of what was wanted."""
    return float((found.double() - wanted).norm() / wanted.norm())
