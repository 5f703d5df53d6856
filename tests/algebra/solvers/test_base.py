"""What a solver hands on to training: values at unit scale, finite wherever the magnitude vanishes."""

import torch

from drawn import normal
from liptt_cli.algebra.codecs.binary import EnvelopeFit
from liptt_cli.algebra.solvers.base import unit_source
from liptt_cli.formats.grid import Envelope

ROWS, COLUMNS = 5, 7


def test_a_source_is_finite_where_the_magnitude_vanishes():
    rows = torch.ones(1, 1, ROWS, 1, dtype=torch.float64)
    rows[0, 0, 2] = 0
    fit = EnvelopeFit(Envelope(rows, None, COLUMNS), (1, ROWS, COLUMNS, 1))
    values = normal(1, ROWS, COLUMNS, 1)
    source = unit_source(fit, values)
    assert torch.isfinite(source).all()
    assert float(source.abs().max()) < 10
    torch.testing.assert_close(source[0, :2], values[0, :2, :, 0])
