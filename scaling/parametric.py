"""The parametric fit: loss = E + A / N^alpha + B / D^beta by a robust regression of log losses.

As Hoffmann et al. (arXiv 2203.15556, section D.2) with the correction of Besiroglu et al. (arXiv 2404.10102): the *sum*
of Huber losses, delta = 1e-3, of ln L - ln(E + A / N^alpha + B / D^beta). Their minimiser, L-BFGS, stopped early where
the mean was taken. Here it is iteratively reweighted Gauss-Newton (Huber, "Robust Statistics", 1981, chapter 7) with
Levenberg-Marquardt damping, many starts (or bootstrap draws) at once as rows of arrays.

A row of unknowns is theta = (ln E, ln A, ln B, alpha, beta): logs keep E, A and B positive.
"""

from __future__ import annotations

import numpy as np

from scaling.results import Array
from scaling.variable_projection import search_grid

DELTA = 1e-3
STARTS = 24
STEPS = 200
TOLERANCE = 1e-12
"""A row is done when a step lowers its objective by less than this share; losses without noise have objectives
near 0, and then DELTA^2 stands in."""
LEAST_TERM = 1e-6
"""What a start takes for an E, A or B of 0, which has no log."""


def log_surface(theta: Array, log_n: Array, log_d: Array) -> tuple[Array, Array]:
    """ln(E + A / N^alpha + B / D^beta) for theta (rows, 5) and log_n, log_d (runs,): (rows, runs); and the share of
    each of the three terms, (3, rows, runs)."""
    e, a, b, alpha, beta = theta.T[:, :, None]
    terms = np.stack([np.broadcast_to(e, (len(theta), len(log_n))), a - alpha * log_n, b - beta * log_d])
    largest = terms.max(axis=0)
    shares = np.exp(terms - largest)
    total = shares.sum(axis=0)
    return largest + np.log(total), shares / total


def huber(residuals: Array, weights: Array) -> Array:
    """Sum over runs of Huber's loss: (rows, runs) -> (rows,)."""
    size = np.abs(residuals)
    total: Array = (weights * np.where(size <= DELTA, residuals**2 / 2, DELTA * (size - DELTA / 2))).sum(axis=1)
    return total


def fit_huber(log_n: Array, log_d: Array, log_loss: Array) -> tuple[Array, float]:
    """The lowest minimum found: theta (5,) and its objective. log_n, log_d, log_loss (runs,).

    Starts come from the grid of scaling/variable_projection.py, where only the two exponents are guessed, instead of
    the literature's 4,500 guesses of all five numbers.
    """
    grid, _ = search_grid(log_n, log_d, np.exp(log_loss))
    starts = np.hstack([np.log(np.maximum(grid[:STARTS, :3], LEAST_TERM)), grid[:STARTS, 3:]])
    theta, objective = minimise_huber(starts, log_n, log_d, log_loss, np.ones((STARTS, len(log_n))))
    best = int(objective.argmin())
    return theta[best], float(objective[best])


def minimise_huber(
    starts: Array, log_n: Array, log_d: Array, log_loss: Array, weights: Array
) -> tuple[Array, Array]:  # fmt: skip
    """From each start (rows, 5) to a local minimum: (theta (rows, 5), objective (rows,)).

    log_n, log_d, log_loss (runs,); weights (rows, runs) says how often each run counts.
    """
    theta = starts.copy()
    predicted, shares = log_surface(theta, log_n, log_d)
    residuals = log_loss - predicted
    objective = huber(residuals, weights)
    damping = np.full(len(theta), 1e-2)
    going = np.arange(len(theta))
    for _ in range(STEPS):
        step = _damped_step(residuals[going], shares[:, going], weights[going], log_n, log_d, damping[going])
        tried = theta[going] + step
        predicted, new_shares = log_surface(tried, log_n, log_d)
        new_residuals = log_loss - predicted
        new_objective = huber(new_residuals, weights[going])
        better = new_objective < objective[going]
        small = objective[going] - new_objective <= TOLERANCE * (objective[going] + DELTA**2)
        taken = going[better]
        theta[taken], objective[taken] = tried[better], new_objective[better]
        residuals[taken], shares[:, taken] = new_residuals[better], new_shares[:, better]
        damping[going] = np.where(better, damping[going] / 3, damping[going] * 4)
        # A step refused under heavy damping belongs to a row that cannot improve any more.
        going = going[~((better & small) | (~better & (damping[going] > 1e6)))]
        if len(going) == 0:
            break
    return theta, objective


def _damped_step(
    residuals: Array, shares: Array, weights: Array, log_n: Array, log_d: Array, damping: Array
) -> Array:  # fmt: skip
    """(rows, 5): to the minimum of the parabola that touches Huber's loss from above, kept short by damping (rows,)."""
    one, over_n, over_d = shares
    jacobian = np.stack([one, over_n, over_d, -over_n * log_n, -over_d * log_d], axis=1)  # (rows, 5, runs)
    weighted = jacobian * (weights * np.minimum(1, DELTA / np.maximum(np.abs(residuals), 1e-300)))[:, None]
    gradient = weighted @ residuals[:, :, None]
    curvature = weighted @ jacobian.transpose(0, 2, 1)
    diagonal = np.einsum("rkk->rk", curvature)  # a view: changing it changes `curvature`
    # The floor keeps a term that has all but vanished from a row (a share of 0 of every run) solvable: it stays put.
    diagonal += damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-30
    step: Array = np.linalg.solve(curvature, gradient)[:, :, 0]
    return step
