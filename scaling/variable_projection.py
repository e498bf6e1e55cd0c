"""The parametric fit by variable projection: given alpha and beta, E + A / N^alpha + B / D^beta is linear in the rest.

So only two unknowns are searched, on a grid and then around its best pair, and E, A and B follow by non-negative least
squares of relative residuals (L - prediction) / L (Golub and Pereyra, SIAM Journal on Numerical Analysis 10, 1973). A
check on the robust fit in scaling/parametric.py, whose starts come from the same grid.
"""

from __future__ import annotations

import itertools

import numpy as np

from scaling.results import Array

GRID = np.geomspace(0.03, 2.0, 24)
"""Of alpha and of beta. Exponents found for language models lie between 0.05 and 1."""
SPACING = float(np.log(GRID[1] / GRID[0]))
LEAST, MOST = 1e-3, 4.0
"""Exponents that the search stays between."""
CANDIDATES = 6
"""Pairs of the grid that are refined."""
MOVES = 200
NOTHING = 1e-18
"""A gain in squared relative residuals not worth a move: losses without noise would go on for ever."""


def fit_variable_projection(log_n: Array, log_d: Array, losses: Array) -> tuple[Array, float]:
    """E, A, B, alpha, beta (5,) of least squares, and that sum. log_n, log_d, losses (runs,)."""
    grid, _ = search_grid(log_n, log_d, losses)
    weights = np.ones((CANDIDATES, len(losses)))
    coefficients, objective = refine(grid[:CANDIDATES, 3:], log_n, log_d, losses, weights, halvings=20)
    best = int(objective.argmin())
    return coefficients[best], float(objective[best])


def search_grid(log_n: Array, log_d: Array, losses: Array) -> tuple[Array, Array]:
    """Coefficients E, A, B, alpha, beta (pairs, 5) for every pair of grid exponents, and their objectives (pairs,),
    best first."""
    exponents = np.array(list(itertools.product(GRID, GRID)))
    linear, objective = profile(exponents, log_n, log_d, losses, np.ones((len(exponents), len(losses))))
    order = np.argsort(objective, kind="stable")
    return np.hstack([linear, exponents])[order], objective[order]


def refine(
    exponents: Array, log_n: Array, log_d: Array, losses: Array, weights: Array, halvings: int
) -> tuple[Array, Array]:
    """From exponents (rows, 2) to the best nearby: coefficients (rows, 5), objective (rows,).

    A pattern search in the exponents' logs: to any better neighbour at a distance, which is halved, `halvings` times,
    where there is none. weights (rows, runs) says how often each run counts.
    """
    place = np.log(exponents)
    distance = np.full(len(place), SPACING)
    linear, objective = profile(exponents, log_n, log_d, losses, weights)
    directions = [np.array(d) for d in itertools.product((-1.0, 0.0, 1.0), repeat=2) if any(d)]
    going = np.arange(len(place))
    for _ in range(MOVES):
        moved = np.zeros(len(going), dtype=bool)
        start = place[going]
        for direction in directions:
            tried = np.clip(start + distance[going, None] * direction, np.log(LEAST), np.log(MOST))
            new_linear, new_objective = profile(np.exp(tried), log_n, log_d, losses, weights[going])
            better = new_objective < objective[going] * (1 - 1e-13) - NOTHING
            taken = going[better]
            place[taken], linear[taken], objective[taken] = tried[better], new_linear[better], new_objective[better]
            moved |= better
        distance[going[~moved]] /= 2
        going = np.flatnonzero(distance > SPACING * 2.0**-halvings)
        if len(going) == 0:
            break
    return np.hstack([linear, np.exp(place)]), objective


def profile(exponents: Array, log_n: Array, log_d: Array, losses: Array, weights: Array) -> tuple[Array, Array]:
    """E, A, B (rows, 3) and objective (rows,) for exponents (rows, 2)."""
    centre_n, centre_d = log_n.mean(), log_d.mean()
    alpha, beta = exponents.T[:, :, None]
    root = np.sqrt(weights)
    relative = root / losses
    over_n, over_d = np.exp(-alpha * (log_n - centre_n)), np.exp(-beta * (log_d - centre_d))
    columns = np.stack([relative, relative * over_n, relative * over_d], axis=1)
    found, objective = non_negative(columns, root)
    found[:, 1] *= np.exp(alpha[:, 0] * centre_n)
    found[:, 2] *= np.exp(beta[:, 0] * centre_d)
    return found, objective


def non_negative(columns: Array, target: Array) -> tuple[Array, Array]:
    """Least squares of x @ columns = target with x >= 0: (x (rows, 3), sum of squared residuals (rows,)).

    columns (rows, 3, runs), target (rows, runs). Exact: of all 7 subsets of the columns, the best whose solution is
    positive. Normal equations of columns of length 1, with a trace of ridge for pairs of exponents near 0, which make
    columns alike.
    """
    scale = np.sqrt((columns**2).sum(axis=2))
    unit = columns / scale[:, :, None]
    gram = unit @ unit.transpose(0, 2, 1)
    moment = (unit @ target[:, :, None])[:, :, 0]
    best = np.zeros((len(columns), 3))
    explained = np.zeros(len(columns))  # of the target's sum of squares
    for size in (1, 2, 3):
        for subset in map(list, itertools.combinations(range(3), size)):
            block = gram[:, subset][:, :, subset] + 1e-13 * np.eye(size)
            found = np.linalg.solve(block, moment[:, subset, None])[:, :, 0]
            saving = (found * moment[:, subset]).sum(axis=1)
            better = (found > 0).all(axis=1) & (saving > explained)
            explained[better] = saving[better]
            best[better] = 0
            best[np.ix_(better, subset)] = found[better]
    left = (((best[:, None] @ unit)[:, 0] - target) ** 2).sum(axis=1)
    return best / scale, left
