import numpy as np
import pytest

from scaling.isoflop import group_by_budget, minima, why_no_minimum
from scaling.study import Point
from tests.scaling.laws import LAW, exact_study


def point(parameters: float, flops: float, loss: float = 3.0, budget: float | None = None) -> Point:
    return Point(f"{parameters:g}", parameters, flops / 6 / parameters, flops, loss, 0, budget)


def test_named_budgets_group_whatever_their_flops() -> None:
    groups = group_by_budget(
        [point(1e7, 1.3e18, budget=1e18), point(2e7, 0.8e18, budget=1e18), point(1e7, 2e18, budget=2e18)]
    )
    assert [len(group.losses) for group in groups] == [2, 1]
    assert groups[0].flops == pytest.approx((1.3e18 * 0.8e18) ** 0.5)


def test_flops_group_within_ten_percent_by_the_fullest_window() -> None:
    flops = [0.8e18, 0.95e18, 1.0e18, 1.05e18, 1.1e18, 1.17e18, 1.45e18]
    groups = group_by_budget([point((i + 1) * 1e7, c) for i, c in enumerate(flops)])
    # 0.8 to 0.95 would be first; 0.95 to 1.1 holds four, and so does 1.0 to 1.17, which comes later.
    assert [len(group.losses) for group in groups] == [1, 4, 1, 1]


def test_minimum_between_knots_and_its_tokens() -> None:
    study = exact_study()
    group = group_by_budget(study.points)[0]
    log_n = np.linspace(group.log_n[0], group.log_n[-1] - 0.2, 401)  # no knot at the optimum
    best = LAW.best_parameters(1e18)
    found = minima(group, log_n, LAW.loss(np.exp(log_n), 1e18 / 6 / np.exp(log_n))[None])
    assert np.exp(found.log_n[0]) == pytest.approx(best, rel=1e-4)
    assert np.exp(found.log_d[0]) == pytest.approx(1e18 / 6 / best, rel=1e-4)
    assert found.losses[0] == pytest.approx(LAW.loss(np.array([best]), np.array([1e18 / 6 / best]))[0], rel=1e-9)


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda x: -((x - 0.5) ** 2), "opens downwards"),
        (lambda x: x, "lowest at the smallest size, 1e+07 parameters: add smaller"),
        (lambda x: (x - 2) ** 2, "lowest at the largest size, 8e+07 parameters: add larger"),
    ],
)
def test_no_minimum_says_why(bend: object, said: str) -> None:
    group = group_by_budget([point(size, 1e18) for size in (1e7, 2e7, 4e7, 8e7)])[0]
    curve = 3 + bend(np.linspace(0, 1, 401))  # type: ignore[operator]
    assert np.isnan(minima(group, np.linspace(*group.log_n[[0, -1]], 401), curve[None]).log_n[0])
    assert said in why_no_minimum(group, curve)
