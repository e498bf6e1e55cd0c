import dataclasses

import numpy as np
import pytest

from scaling.bootstrap import minima_draws, resampled_weights
from scaling.isoflop import Group, Minima, group_by_budget, minima, splines_of
from scaling.recovery import Design, Grid, Law, synthetic_study
from scaling.results import Method, percentile_interval
from scaling.smoothers import Splines, quadratic
from tests.scaling.laws import LAW, SKEWED, exact_study


def test_seeds_of_one_size_and_length_are_drawn_together() -> None:
    log_n = np.repeat(np.arange(8.0), 3)
    weights = resampled_weights(log_n, 40 - log_n, 200)
    usable = weights[~np.isnan(weights).any(axis=1)]
    assert len(usable) > 100
    assert (usable.reshape(-1, 8, 3).std(axis=2) == 0).all()
    assert (usable.sum(axis=1) == 24).all()
    assert usable.mean() == pytest.approx(1)
    assert usable.std() > 0.5


def test_draws_that_determine_no_surface_are_void() -> None:
    sizes = np.arange(6.0)
    weights = resampled_weights(sizes, -sizes, 500)
    void = np.isnan(weights).all(axis=1)
    assert ((weights[~void] > 0).sum(axis=1) >= 5).all()
    assert 0.5 < void.mean() < 0.95


METHODS: tuple[Method, Method] = ("quadratic", "spline")


def noisy_groups(law: Law, grid: Grid, noise: float, design: Design) -> list[Group]:
    return group_by_budget(synthetic_study(law, design, grid, noise, np.random.default_rng(3)).points)


def likeliest(groups: list[Group]) -> Splines:
    """The probable roughness alone: what the choice among several adds has no simple oracle."""
    return dataclasses.replace(max(splines_of(groups), key=lambda one: one.probability), probability=1.0)


def test_draws_of_minima_scatter_as_minima_of_new_noise_do() -> None:
    """The oracle is what a bootstrap stands for: the same runs, made again many times."""
    noise = 0.003
    groups = noisy_groups(LAW, "centred", noise, Design((1e18, 3e18), sizes=9, seeds=4))
    alone = likeliest(groups)
    drawn = np.nanstd([one.log_n for one in minima_draws(groups, [alone], 2000, "spline")], axis=1)
    generator = np.random.default_rng(5)
    for group, smoother, spread in zip(groups, alone.smoothers, drawn, strict=True):
        true = LAW.loss(np.exp(group.log_n), np.exp(group.log_d))
        again = true * np.exp(generator.normal(0, noise, (2000, len(true))))
        expected = minima(group, smoother.log_n, again @ smoother.dense.T).log_n.std()
        assert spread == pytest.approx(expected, rel=0.25)


def wide_draws() -> tuple[list[Group], Splines, list[tuple[float, float]], list[Minima], list[Minima]]:
    """Budgets, their splines, the minima of parabola and spline, and draws of the parabola's and the spline's."""
    groups = noisy_groups(SKEWED, "wide", 0.002, Design((1e18, 3e18), sizes=9, seeds=4))
    truth = likeliest(groups)
    both = []
    for group, spline in zip(groups, truth.smoothers, strict=True):
        each = (minima(group, one.log_n, (one.dense @ group.losses)[None]) for one in (quadratic(group.log_n), spline))
        straight, bent = (float(one.log_n[0]) for one in each)
        both.append((straight, bent))
    mixed, free = (minima_draws(groups, [truth], 40_000, method) for method in METHODS)
    return groups, truth, both, mixed, free


def test_half_of_the_parabolas_draws_are_minima_of_parabolas_and_half_of_splines() -> None:
    _, _, both, mixed, _ = wide_draws()
    for (straight, bent), one in zip(both, mixed, strict=True):
        apart = abs(straight - bent)
        assert apart > 0.1  # of ln N: far, on a wide grid
        near = np.abs(one.log_n - straight) < np.abs(one.log_n - bent)
        assert near.mean() == pytest.approx(0.5, abs=0.02)
        assert one.log_n[near].mean() == pytest.approx(straight, abs=0.02 * apart)
        assert one.log_n[~near].mean() == pytest.approx(bent, abs=0.1 * apart)  # smoothed twice


def test_the_mixture_ends_where_imbens_and_manski_say() -> None:
    """1.645 standard errors beyond two minima that are far apart, 1.96 where they agree."""
    groups, truth, both, mixed, free = wide_draws()
    for group, (straight, bent), one, spline in zip(groups, both, mixed, free, strict=True):
        interval = percentile_interval(one.log_n)
        assert interval is not None
        ends = {straight < bent: interval.low, straight > bent: interval.high}
        side = 1 if bent > straight else -1
        parabola = quadratic(group.log_n)
        noise = np.random.default_rng(6).normal(0, truth.noise, (5000, len(group.losses)))
        spread = minima(group, parabola.log_n, (group.losses + noise) @ parabola.dense.T).log_n.std()
        assert ends[True] == pytest.approx(straight - side * 1.645 * spread, abs=0.1 * spread)
        # Minima of splines are not quite Gaussian, so by their own 5%, of draws of the spline's.
        beyond = np.quantile(spline.log_n, 0.95 if side > 0 else 0.05)
        assert ends[False] == pytest.approx(beyond, abs=0.1 * spline.log_n.std())
        agreeing = Splines(1.0, (quadratic(group.log_n),), noise=0.001, degrees=1000)
        agreed = minima_draws([group], [agreeing], 40_000, "quadratic")[0].log_n
        interval = percentile_interval(agreed)
        assert interval is not None
        assert (interval.high - interval.low) / agreed.std() == pytest.approx(2 * 1.96, rel=0.02)


def test_without_a_spare_run_there_are_no_draws() -> None:
    groups = group_by_budget(exact_study(design=Design((1e18, 3e18), sizes=3, seeds=1)).points)
    for method in METHODS:
        drawn = minima_draws(groups, splines_of(groups), 50, method)
        assert all(np.isnan(one.log_n).all() for one in drawn)
