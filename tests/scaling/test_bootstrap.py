import numpy as np
import pytest

from scaling.bootstrap import minima_draws, resampled_weights
from scaling.isoflop import group_by_budget, minima, smoothers
from scaling.recovery import Design
from tests.scaling.laws import LAW, exact_study


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


def test_draws_of_minima_scatter_as_minima_of_new_noise_do() -> None:
    """The oracle is what a bootstrap stands for: the same runs, made again many times."""
    noise, design = 0.003, Design((1e18, 3e18), sizes=9, seeds=4)
    groups = group_by_budget(exact_study(LAW, design, noise).points)
    candidates = smoothers(groups, "quadratic")
    drawn = np.nanstd([one.log_n for one in minima_draws(groups, candidates, 2000)], axis=1)
    generator = np.random.default_rng(5)
    for group, smoother, spread in zip(groups, candidates[0][1], drawn, strict=True):
        true = LAW.loss(np.exp(group.log_n), np.exp(group.log_d))
        again = true * np.exp(generator.normal(0, noise, (2000, len(true))))
        expected = minima(group, smoother.log_n, again @ smoother.dense.T).log_n.std()
        assert spread == pytest.approx(expected, rel=0.25)


def test_without_a_spare_run_there_are_no_draws() -> None:
    groups = group_by_budget(exact_study(design=Design((1e18, 3e18), sizes=3, seeds=1)).points)
    assert all(np.isnan(one.log_n).all() for one in minima_draws(groups, smoothers(groups, "quadratic"), 50))
