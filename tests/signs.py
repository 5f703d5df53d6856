"""Programs of random sign weights, and how far a kernel may be from what they mean."""

from collections.abc import Sequence

import torch

from drawn import seeded, value_of
from liptt_cli.forms.leaves import EnvelopeForm, GridForm
from liptt_cli.kernels.layout import write_program
from liptt_cli.kernels.terms import lower

FULL_ENTRIES, FAST_ENTRIES = 1023, 63  # units in the greatest sum of four
UNITS = 32700  # of the AVX-512 kernel, in the sum of all magnitudes of a segment


def grid(rows, columns, group_columns=None, *, by_row=True):
    """A sign grid under scales for each row and group; None is no scale at all."""
    scale = None if group_columns is None else EnvelopeForm(rows if by_row else 1, min(group_columns, columns))
    return value_of(GridForm((rows, columns), scale=scale), seed=rows + columns)


def enveloped(rows, columns, group_columns, *, planes, rank):
    """Planes of signs, each under a magnitude of that rank with scales of columns."""
    scale = EnvelopeForm(rows, group_columns, cols=True, rank=rank)
    return value_of(GridForm((rows, columns), planes=planes, scale=scale), seed=rows + columns)


def block_of(values):
    """The program of some weights, also where no kernel is compiled."""
    forms = [value.form for value in values]
    rows = [form.shape[0] for form in forms]
    return write_program([lower(value) for value in values], in_features=forms[0].shape[1], out_features=rows)


def entries(kernel):
    return FAST_ENTRIES if kernel.endswith("-fast") else FULL_ENTRIES


def bound(value, x, kernel):
    """The most that rounding to the kernel's units can add up to, (tokens, rows).

    Rounded is each sum of four, or each input (AVX-512). Only for grids without columns' scales: then each group of 128
    columns has one unit.
    """
    if kernel in ("torch", "portable"):
        return 1e-6 * (x.abs().double() @ value.dense(torch.float64).abs().T) + 1e-30
    columns = x.shape[1]
    ends = _segment_ends(value, columns)
    total = torch.zeros(len(x), value.form.shape[0], dtype=torch.float64)
    weight, start = value.dense(torch.float64).abs(), 0
    for end in ends:
        part = torch.nn.functional.pad(x[:, start:end].double().abs(), (0, -(end - start) % 8))
        sums = part.unflatten(1, (-1, 4)).sum(2)
        if kernel == "avx512":
            units = (end - start) / UNITS * sums.sum(1, keepdim=True)
        else:
            units = sums.shape[1] / entries(kernel) * sums.amax(1, keepdim=True)
        total += 0.51 * units * weight[:, start]
        start = end
    return total + 1e-5 * (x.abs().double() @ weight.T) + 1e-30


def _segment_ends(value, columns: int) -> Sequence[int]:
    width = columns if value.scale is None else value.scale.group_columns
    groups = [(start, min(start + width, columns)) for start in range(0, columns, width)]
    return [min(cut + 128, stop) for start, stop in groups for cut in range(start, stop, 128)]


def gaussian(tokens, columns, *, seed=0):
    return torch.randn(tokens, columns, generator=seeded(seed))


def relative_error(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


def matrix_of(term, columns):
    """The matrix of a term, in float64."""
    matrix = term.codes.double() * 2 - 1
    if term.scales is not None:
        starts = torch.tensor([0, *term.group_ends])
        matrix = matrix * term.scales.double().repeat_interleave(starts.diff(), dim=1)
    matrix = matrix if term.rows is None else matrix * term.rows.double().unsqueeze(1)
    matrix = matrix if term.cols is None else matrix * term.cols.double()
    if term.gather is None:
        return matrix
    return torch.zeros(len(matrix), columns, dtype=torch.float64).index_copy(1, term.gather, matrix)


def greatest_sums(value):
    """What the terms of a value can add up to at most, for each entry of its matrix."""
    lowered, columns = lower(value), value.form.shape[1]
    total = value.dense(torch.float64).abs()
    total = total + sum(matrix_of(term, columns).abs() for term in lowered.direct)
    for first, second in lowered.pairs:
        hidden = sum(matrix_of(term, columns).abs() for term in first)
        total = total + sum(matrix_of(term, len(first[0].codes)).abs() for term in second) @ hidden
    return total
