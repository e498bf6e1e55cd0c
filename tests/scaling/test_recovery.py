import numpy as np
import pytest

from scaling.recovery import DESIGNS, GRIDS, Grid, Outcome, coverage, outside, random_law, synthetic_study, table
from tests.scaling.laws import LAW


def outcomes(grid: Grid, held: list[bool | None]) -> list[Outcome]:
    return [Outcome("spline", grid, 0.001, "N ahead", 0.1, None if one is None else 0.2, one) for one in held]


def test_intervals_that_hold_the_truth_too_rarely_or_too_often_are_named() -> None:
    rare = outcomes("wide", [True] * 89 + [False] * 11 + [None] * 50)
    always = outcomes("centred", [True] * 100)
    sound = outcomes("shared", [True] * 95 + [False] * 5)
    assert outside([*rare, *always, *sound]) == ["N ahead, spline, centred: 100.0%", "N ahead, spline, wide: 89.0%"]
    assert coverage([*rare, *sound], "N ahead", "spline", "wide") == 0.89
    assert "| N ahead | spline | wide | +0.1000 | 0.0000 | 0.2000 | 89.0% | 100 |" in table([*sound, *rare])


@pytest.mark.parametrize("grid", GRIDS)
def test_every_budgets_optimum_is_enclosed_by_its_sizes(grid: Grid) -> None:
    for design in DESIGNS:
        law = random_law(np.random.default_rng(8))
        study = synthetic_study(law, design, grid, 0.001, np.random.default_rng(9))
        sizes = {
            budget: sorted({p.parameters for p in study.points if p.budget == budget}) for budget in design.budgets
        }
        assert all(found[0] < law.best_parameters(budget) < found[-1] for budget, found in sizes.items())
        same = {tuple(np.round(np.log(found), 9)) for found in sizes.values()}
        assert len(same) == (1 if grid == "shared" else len(design.budgets))


def test_the_true_optimum_is_the_least_loss_that_a_budget_buys() -> None:
    sizes = np.geomspace(1e7, 1e9, 20_001)
    lowest = sizes[LAW.loss(sizes, 1e18 / 6 / sizes).argmin()]
    assert LAW.best_parameters(1e18) == pytest.approx(lowest, rel=1e-3)
