"""Error curves: exact at the points, log-linear between and beyond, never worse for more bits."""

from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liptt_cli.planning.curves import Curve, reach

POINTS = st.dictionaries(st.integers(1, 40), st.floats(1e-6, 1.0), min_size=1, max_size=6)


def test_it_goes_through_the_points_and_is_log_linear_between_and_beyond():
    curve = Curve.through([(1.0, 0.1), (0.5, 0.4), (2.0, 0.05)])
    assert [curve.error(bits) for bits in (0.5, 1.0, 2.0)] == pytest.approx([0.4, 0.1, 0.05])
    assert curve.error(0.75) == pytest.approx(exp((log(0.4) + log(0.1)) / 2))
    assert curve.error(3.0) == pytest.approx(0.025)
    assert curve.error(0.25) == pytest.approx(0.8)


@given(POINTS)
def test_a_larger_form_is_never_worse(points: dict[int, float]):
    curve = Curve.through([(bits / 10, error) for bits, error in points.items()])
    errors = [curve.error(bits / 20) for bits in range(100)]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in zip(errors, errors[1:], strict=False))
    least = min(points.values())
    assert curve.error(max(points) / 10) == pytest.approx(least)


def test_an_error_of_zero_is_a_very_small_one():
    assert 0 < Curve.through([(1.0, 0.5), (2.0, 0.0)]).error(2.0) < 1e-9


def test_forms_are_offered_one_interval_beyond_the_measured_ones():
    assert reach([0.3, 0.5, 0.8, 1.2]) == pytest.approx((0.1, 1.6))
    assert reach([0.7]) == (0.7, 0.7)
