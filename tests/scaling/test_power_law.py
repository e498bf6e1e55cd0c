import numpy as np
import pytest

from scaling.power_law import power_law


def test_the_users_document() -> None:
    """154M parameters at 1e18 and 341M at 6e18. Two optima fix both exponents: 0.444 and 0.556, within 0.0125 of the
    document's 0.456 and 0.544, which come from four budgets."""
    flops, best = np.array([1e18, 6e18]), np.array([[154e6, 341e6]])
    (_, over_n), (_, over_d) = power_law(np.log(flops), np.log(np.vstack([best, flops / 6 / best])))
    assert over_n == pytest.approx(0.456, abs=0.0125)
    assert over_d == pytest.approx(0.544, abs=0.0125)
    assert over_n + over_d == pytest.approx(1)
    assert over_n == pytest.approx(np.log(341 / 154) / np.log(6))


def test_agrees_with_polyfit() -> None:
    generator = np.random.default_rng(0)
    x, y = np.log([1e18, 2e18, 3e18, 6e18]), generator.normal(20, 1, (5, 4))
    for fitted, values in zip(power_law(x, y), y, strict=True):
        assert fitted == pytest.approx(np.polyfit(x, values, 1)[::-1], rel=1e-8)


def test_budgets_without_an_optimum_are_passed_over() -> None:
    x = np.log([1e18, 3e18, 4e18])
    y = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 3.0]])
    fitted = power_law(x, y)
    assert fitted[0] == pytest.approx(np.polyfit(x[[0, 2]], [1.0, 3.0], 1)[::-1])
    assert np.isnan(fitted[1]).all()
