"""Do the fits find laws that are known? Synthetic studies, and how often each method's intervals hold the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from scaling.fit import fit
from scaling.results import Array, Estimate, Fit, Method, Optimum, PowerLaw, surface
from scaling.study import Point, Study

Grid = Literal["centred", "off-centre", "wide", "shared"]
GRIDS: tuple[Grid, ...] = get_args(Grid)
# Smallest and largest size, as multiples of the true optimum of each budget; of "shared", which has the same sizes at
# every budget as sweeps do, of the least and of the largest budget.
SPANS: dict[Grid, tuple[float, float]] = {
    "centred": (1 / 4, 4), "off-centre": (1 / 1.8, 8), "wide": (1 / 20, 20), "shared": (1 / 3, 3),
}  # fmt: skip
NOISES = (0.001, 0.004)
"""Standard deviation of ln loss between runs that differ by seed."""


@dataclass(frozen=True)
class Design:
    """What runs a synthetic study has."""

    budgets: tuple[float, ...]
    sizes: int
    seeds: int


DESIGNS = (
    Design((1e18, 2e18, 3e18, 6e18), sizes=9, seeds=1),  # depths 6 to 14, one run each
    Design((1e18, 3e18, 1e19, 3e19), sizes=7, seeds=2),
)
AHEAD = 5.0
"""Predictions are for this many times the largest budget."""


@dataclass(frozen=True)
class Law:
    """A true loss surface, C = 6 N D."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: Array, tokens: Array) -> Array:
        return surface(np.array([[self.E, self.A, self.B, self.alpha, self.beta]]), parameters, tokens)

    def best_parameters(self, flops: float) -> float:
        """The N of least loss where 6 N D = flops (Hoffmann et al., arXiv 2203.15556, equation 4)."""
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        return float(ratio * (flops / 6) ** (self.beta / (self.alpha + self.beta)))


def random_law(generator: np.random.Generator) -> Law:
    """Exponents of 0.28 to 0.45, an optimum of 20 tokens a parameter at 2e18 FLOPs, loss 0.6 to 1.2 above E."""
    alpha, beta = generator.uniform(0.28, 0.45, size=2)
    above = generator.uniform(0.6, 1.2)
    parameters = (2e18 / 120) ** 0.5
    over_n = above * beta / (alpha + beta)  # at the optimum alpha A / N^alpha = beta B / D^beta
    over_d = above - over_n
    return Law(generator.uniform(1.5, 2.0), over_n * parameters**alpha, over_d * (20 * parameters) ** beta, alpha, beta)


def synthetic_study(law: Law, design: Design, grid: Grid, noise: float, generator: np.random.Generator) -> Study:
    """Every size of every budget, `design.seeds` times."""
    points = []
    for budget in design.budgets:
        least, most = (design.budgets[0], design.budgets[-1]) if grid == "shared" else (budget, budget)
        below, above = SPANS[grid]
        sizes = np.geomspace(law.best_parameters(least) * below, law.best_parameters(most) * above, design.sizes)
        losses = law.loss(sizes, budget / 6 / sizes)
        for seed in range(design.seeds):
            for size, loss in zip(sizes, losses * np.exp(generator.normal(0, noise, design.sizes)), strict=True):
                name = f"{budget:g} FLOPs, {size:.4g}, seed {seed}"
                points.append(Point(name, size, budget / 6 / size, budget, loss, seed, budget))
    return Study(tuple(points), "nats per token", "all")


@dataclass(frozen=True)
class Outcome:
    """One number of one study: the method's answer against the truth."""

    method: Method
    grid: Grid
    noise: float
    what: str
    error: float
    """Of the value; relative for sizes and losses."""
    width: float | None
    """Of the interval, likewise; None: there is none."""
    covered: bool | None


def study_outcomes(number: int, grid: Grid, noise: float, draws: int) -> list[Outcome]:
    """Everything that study `number` tells. Its law, design and noise follow from the number alone."""
    generator = np.random.default_rng([number, GRIDS.index(grid), round(1e6 * noise)])
    law = random_law(generator)
    design = DESIGNS[number % len(DESIGNS)]
    fitted = fit(synthetic_study(law, design, grid, noise, generator), draws)
    return [
        Outcome(method, grid, noise, what, *_compare(estimate, truth, what))
        for method, what, estimate, truth in answers(fitted, law, AHEAD * design.budgets[-1])
    ]


def answers(fitted: Fit, law: Law, ahead: float) -> Iterator[tuple[Method, str, Estimate, float]]:
    """(method, what, estimate, truth) of all that is asked: exponents, optima of the budgets, predictions."""
    exponent = law.beta / (law.alpha + law.beta)
    for curves in fitted.isoflop_fits:
        for optimum in curves.optima:
            yield from _optimum_answers(curves.method, "at a budget", optimum, law)
        predicted = curves.optimum(ahead)
        if predicted and isinstance(curves.parameters, PowerLaw):
            yield curves.method, "exponent of N", curves.parameters.exponent, exponent
            yield from _optimum_answers(curves.method, "ahead", predicted, law)
    for surfaces in fitted.parametric_fits:
        yield surfaces.method, "exponent of N", surfaces.parameters_exponent, exponent
        for name in ("E", "alpha", "beta"):
            yield surfaces.method, name, getattr(surfaces, name), getattr(law, name)
        yield from _optimum_answers(surfaces.method, "ahead", surfaces.optimum(ahead), law)


def _optimum_answers(
    method: Method, where: str, optimum: Optimum, law: Law
) -> Iterator[tuple[Method, str, Estimate, float]]:
    best = law.best_parameters(optimum.flops)
    yield method, f"N {where}", optimum.parameters, best
    if optimum.loss:
        least = law.loss(np.array([best]), np.array([optimum.flops / 6 / best]))[0]
        yield method, f"loss {where}", optimum.loss, float(least)


def _compare(estimate: Estimate, truth: float, what: str) -> tuple[float, float | None, bool | None]:
    scale = truth if what.startswith(("N ", "loss ")) else 1.0
    error = (estimate.value - truth) / scale
    if estimate.interval is None:
        return error, None, None
    low, high = estimate.interval
    return error, (high - low) / scale, low <= truth <= high


Question = tuple[str, Method, Grid]
"""What is asked, of which method, on which grid."""


def by_question(outcomes: Sequence[Outcome]) -> dict[Question, list[Outcome]]:
    """In the table's order."""
    found: dict[Question, list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: (one.what, one.method, GRIDS.index(one.grid))):
        found.setdefault((one.what, one.method, one.grid), []).append(one)
    return found


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: bias, spread and coverage by question, method and grid."""
    lines = [
        "| what | method | grid | bias | spread | interval's median width | covered | of |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for (what, method, grid), rows in by_question(outcomes).items():
        errors = np.array([row.error for row in rows])
        told = [row for row in rows if row.covered is not None]
        widths = [row.width for row in told if row.width is not None]
        covered = f"{share_covered(told):.1%} | {len(told)}" if told else " | 0"
        width = f"{np.median(widths):.4f}" if widths else ""
        lines.append(
            f"| {what} | {method} | {grid} | {errors.mean():+.4f} | {errors.std():.4f} | {width} | {covered} |"
        )
    return "\n".join(lines)


def outside(outcomes: Sequence[Outcome], least: float = 0.90, most: float = 0.99) -> list[str]:
    """The questions whose intervals hold the truth too rarely, or so often that they are too wide."""
    shares = {question: share_covered(rows) for question, rows in by_question(outcomes).items()}
    return [f"{what}, {method}, {grid}: {share:.1%}" for (what, method, grid), share in shares.items()
            if not least <= share <= most]  # fmt: skip


def share_covered(outcomes: Sequence[Outcome]) -> float:
    """Of the intervals, how many hold the truth; NaN where there is none."""
    told = [one.covered for one in outcomes if one.covered is not None]
    return sum(told) / len(told) if told else float("nan")


def coverage(outcomes: Sequence[Outcome], what: str, method: Method, grid: Grid | None = None) -> float:
    """Share of intervals that hold the truth."""
    return share_covered([
        one for one in outcomes if (one.what, one.method) == (what, method) and grid in (None, one.grid)
    ])  # fmt: skip
