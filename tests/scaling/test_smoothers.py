import numpy as np
import pytest

from scaling.smoothers import _spline, quadratic, splines

LOG_N = np.log(np.geomspace(1e7, 1e9, 8))


def test_the_parabola_is_polyfits() -> None:
    losses = np.random.default_rng(0).normal(3, 0.1, 8)
    smoother = quadratic(LOG_N)
    centred = LOG_N - LOG_N.mean()
    expected = np.polyval(np.polyfit(centred, losses, 2), smoother.log_n - LOG_N.mean())
    assert smoother.dense @ losses == pytest.approx(expected, abs=1e-9)
    assert smoother.spare == pytest.approx(5)


def test_a_smooth_spline_is_the_parabola_and_a_rough_one_goes_through_every_point() -> None:
    losses = np.random.default_rng(0).normal(3, 0.1, 8)
    assert _spline(LOG_N, 1e-12).dense @ losses == pytest.approx(quadratic(LOG_N).dense @ losses, abs=1e-8)
    rough = _spline(LOG_N, 1e10)
    assert rough.hat @ losses == pytest.approx(losses, abs=1e-4)
    assert rough.spare == pytest.approx(0, abs=1e-3)


def test_a_spline_is_the_smoothest_function_at_its_distance() -> None:
    """By the penalised sum that defines it: squared residuals + (integral of f'''^2) / roughness, minimised over
    values on a fine lattice by brute force."""
    x = np.linspace(0, 1, 6)
    y = np.array([0.0, 0.5, 0.3, 0.9, 0.7, 1.5])
    roughness, count = 2e4, 401
    third = np.diff(np.eye(count), n=3, axis=0) / (1 / (count - 1)) ** 3
    pick = np.eye(count)[np.round(x * (count - 1)).astype(int)]
    lattice = np.linalg.solve(pick.T @ pick + third.T @ third / (count - 1) / roughness, pick.T @ y)
    assert _spline(x, roughness).dense @ y == pytest.approx(lattice, abs=0.01)


def test_seeds_of_a_size_count_as_their_mean() -> None:
    generator = np.random.default_rng(1)
    twice = generator.normal(3, 0.1, (8, 2))
    both = quadratic(np.repeat(LOG_N, 2)).dense @ twice.ravel()
    assert both == pytest.approx(quadratic(LOG_N).dense @ twice.mean(axis=1), abs=1e-9)


def test_asymmetric_losses_bend_the_spline() -> None:
    scaled = (LOG_N - LOG_N[0]) / 4
    losses = 3 + (scaled - 0.4) ** 2 + 1.5 * (scaled - 0.4) ** 3 + np.random.default_rng(0).normal(0, 1e-4, 8)
    candidates = splines([(LOG_N, losses)])
    assert sum(one.probability for one in candidates) == pytest.approx(1)
    curve = sum(one.probability * (one.smoothers[0].dense @ losses) for one in candidates)
    lowest = candidates[0].smoothers[0].log_n[np.argmin(curve)]
    parabola = quadratic(LOG_N)
    missed = parabola.log_n[np.argmin(parabola.dense @ losses)]
    truth = LOG_N[0] + 4 * 0.4
    assert abs(lowest - truth) < 0.02 < 0.1 < abs(missed - truth)


def test_no_candidate_goes_through_every_run_even_where_losses_have_no_noise() -> None:
    scaled = (LOG_N - LOG_N[0]) / 4
    losses = 3 + (scaled - 0.4) ** 2 + 1.5 * (scaled - 0.4) ** 3
    candidates = splines([(LOG_N, losses)])
    assert 1 <= min(one.smoothers[0].spare for one in candidates) < 1.5  # the roughest allowed; rougher is likelier yet
    likely = max(candidates, key=lambda one: one.probability).smoothers[0]
    assert likely.hat @ losses == pytest.approx(losses, abs=2e-3)  # the parabola misses them by 0.06
    assert likely.log_n[np.argmin(likely.dense @ losses)] == pytest.approx(LOG_N[0] + 1.6, abs=0.01)


def test_noise_is_told_from_the_runs_that_the_parabolas_leave() -> None:
    """Oracle: the noise that was put in, on losses of a parabola and on losses that bend."""
    noise, scaled = 0.003, (np.repeat(LOG_N, 40) - LOG_N[0]) / 4
    for bend in (0.0, 1.5):
        losses = 3 + (scaled - 0.4) ** 2 + bend * (scaled - 0.4) ** 3
        losses += np.random.default_rng(2).normal(0, noise, len(losses))
        for one in splines([(np.repeat(LOG_N, 40), losses), (np.repeat(LOG_N, 40), losses[::-1])]):
            assert one.degrees == 2 * (320 - 3)
            assert one.noise == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize(("sizes", "seeds", "degrees"), [(3, 1, 0), (3, 2, 3), (4, 1, 1)])
def test_too_few_runs_leave_the_parabola_alone(sizes: int, seeds: int, degrees: int) -> None:
    log_n = np.repeat(LOG_N[:sizes], seeds)
    losses = np.random.default_rng(4).normal(3, 0.1, len(log_n))
    (only,) = splines([(log_n, losses)])
    parabola = quadratic(log_n)
    assert only.smoothers[0].dense @ losses == pytest.approx(parabola.dense @ losses)
    assert (only.probability, only.degrees) == (1.0, degrees)
    if degrees:
        assert only.noise**2 * degrees == pytest.approx(((losses - parabola.hat @ losses) ** 2).sum())
