from pathlib import Path

import numpy as np
import pytest

from scaling.csv_study import read_csv
from scaling.parametric import DELTA, fit_huber, huber, log_surface, minimise_huber
from scaling.study import Study, drop_highest
from scaling.variable_projection import fit_variable_projection, non_negative
from tests.scaling.laws import LAW, exact_study

PUBLISHED = dict(E=1.81724, A=477.84, B=2143.86, alpha=0.34731, beta=0.36718)
OBJECTIVE = 0.00101827


def logs(study: Study) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.log([(p.parameters, p.tokens, p.loss) for p in study.points]).T)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def chinchilla(shared_data: Path) -> Study:
    return drop_highest(read_csv(shared_data / "chinchilla" / "svg_extracted_data.csv"), 5)


def test_the_published_replication(chinchilla: Study) -> None:
    """Besiroglu et al. (arXiv 2404.10102): their notebook's direct fit of 240 points, to four digits."""
    assert len(chinchilla.points) == 240
    theta, objective = fit_huber(*logs(chinchilla))
    found = [*np.exp(theta[:3]), *theta[3:]]
    assert found == pytest.approx(list(PUBLISHED.values()), rel=3e-4)
    assert objective == pytest.approx(OBJECTIVE, abs=5e-9)


def test_no_start_of_the_literatures_grid_finds_a_lower_minimum(chinchilla: Study) -> None:
    """All 4,500: a, b in 0..25, e in -1..1, alpha, beta in 0..2. Most end in worse minima; none in a better one."""
    log_n, log_d, log_loss = logs(chinchilla)
    _, objective = fit_huber(log_n, log_d, log_loss)
    wide, narrow = np.arange(0, 26, 5), np.arange(0, 2.1, 0.5)
    axes = (np.arange(-1, 1.1, 0.5), wide, wide, narrow, narrow)
    starts = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    ones = np.ones((250, len(log_n)))
    others = np.concatenate([
        minimise_huber(starts[first : first + 250], log_n, log_d, log_loss, ones)[1] for first in range(0, 4500, 250)
    ])  # fmt: skip
    assert len(others) == 4500
    assert others.min() == pytest.approx(objective, rel=1e-6)
    assert 100 < (others < objective * (1 + 1e-6)).sum() < 4500


def test_agrees_with_l_bfgs(chinchilla: Study) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is the oracle of this test only")
    log_n, log_d, log_loss = logs(chinchilla)
    ones = np.ones((1, len(log_n)))

    def objective(theta: np.ndarray) -> float:
        return float(huber(log_loss - log_surface(theta[None], log_n, log_d)[0], ones)[0]) * 1e4

    theta, found = fit_huber(log_n, log_d, log_loss)
    start = theta + np.array([0.05, 0.3, -0.3, 0.02, -0.02])
    other = optimize.minimize(objective, start, method="L-BFGS-B", options=dict(maxiter=5000, maxfun=50000, ftol=1e-15))
    assert found <= other.fun / 1e4 * (1 + 1e-9)
    assert other.fun / 1e4 == pytest.approx(found, rel=1e-3)


def test_exact_losses_give_the_law_back() -> None:
    log_n, log_d, log_loss = logs(exact_study())
    law = [LAW.E, LAW.A, LAW.B, LAW.alpha, LAW.beta]
    theta, objective = fit_huber(log_n, log_d, log_loss)
    assert [*np.exp(theta[:3]), *theta[3:]] == pytest.approx(law, rel=1e-3)
    assert objective < 1e-12
    coefficients, _ = fit_variable_projection(log_n, log_d, np.exp(log_loss))
    assert coefficients == pytest.approx(law, rel=1e-3)


def test_an_outlier_moves_the_robust_fit_less() -> None:
    log_n, log_d, log_loss = logs(exact_study(noise=0.0005))
    spoilt = log_loss.copy()
    spoilt[4] += 0.2
    robust = fit_huber(log_n, log_d, spoilt)[0][3:] - [LAW.alpha, LAW.beta]
    squares = fit_variable_projection(log_n, log_d, np.exp(spoilt))[0][3:] - [LAW.alpha, LAW.beta]
    assert np.abs(robust).max() < 0.05 < np.abs(squares).max()


def test_huber_is_the_sum() -> None:
    residuals = np.array([[0.0, DELTA / 2, DELTA, -3 * DELTA]])
    expected = DELTA**2 * (0.125 + 0.5 + (3 - 0.5))
    assert huber(residuals, np.ones((1, 4)))[0] == pytest.approx(expected)
    assert huber(residuals, np.array([[1, 1, 1, 2]]))[0] == pytest.approx(expected + DELTA**2 * 2.5)


def test_weights_are_repeats() -> None:
    log_n, log_d, log_loss = logs(exact_study(noise=0.003))
    often = np.random.default_rng(0).integers(0, 3, len(log_n))
    rows = np.repeat(np.arange(len(log_n)), often)
    start = np.array([[np.log(1.7), np.log(400), np.log(600), 0.34, 0.29]])
    weighted, _ = minimise_huber(start, log_n, log_d, log_loss, often[None].astype(float))
    repeated, _ = minimise_huber(start, log_n[rows], log_d[rows], log_loss[rows], np.ones((1, len(rows))))
    assert weighted == pytest.approx(repeated, rel=1e-5)


def test_non_negative_least_squares_agrees_with_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is the oracle of this test only")
    generator = np.random.default_rng(0)
    columns, target = generator.normal(size=(50, 3, 7)), generator.normal(size=(50, 7))
    found, left = non_negative(columns, target)
    touched = 0
    for row in range(50):
        expected, norm = optimize.nnls(columns[row].T, target[row])
        touched += bool((expected == 0).any())
        assert found[row] == pytest.approx(expected, abs=1e-9)
        assert left[row] == pytest.approx(norm**2)
    assert touched > 10  # the bound is at work
