"""What a fit of a study is: optima, power laws and parametric surfaces, each number with its interval.

Frozen values only; they are made in scaling/fit.py. Whatever can be asked of a fit (the optimum for a budget, the
loss of a run, a band over many budgets) is a method here, so that predictions, plots and the report say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scaling.study import Study
from vnc.evals.bootstrap import Interval

LEVEL = 0.95
"""Of every interval."""
MOST_FAILED_DRAWS = 0.2
"""Above this share of bootstrap draws without a result an interval would tell of the lucky ones only: there is none."""

Array = np.ndarray[Any, np.dtype[np.float64]]
Method = Literal["quadratic", "spline", "huber", "variable_projection"]


@dataclass(frozen=True)
class Missing:
    """There is no fit, and this is what it would take: a whole sentence."""

    what: str

    def as_dict(self) -> dict[str, Any]:
        return {"missing": self.what}


@dataclass(frozen=True)
class Estimate:
    value: float
    interval: Interval | None
    """95%, from the bootstrap; None where the study cannot tell (no spare run, or too many draws without a fit)."""

    @classmethod
    def of(cls, value: float, draws: Array) -> Estimate:
        """`draws` (draws,): the same number from every bootstrap draw, NaN where a draw gave none."""
        return cls(float(value), percentile_interval(draws))


def percentile_interval(draws: Array) -> Interval | None:
    """The middle 95% of the draws (Efron's percentile interval)."""
    found = draws[~np.isnan(draws)]
    if len(draws) == 0 or len(found) < (1 - MOST_FAILED_DRAWS) * len(draws):
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Optimum:
    """What to train with `flops`: the size and tokens of least loss."""

    flops: float
    parameters: Estimate
    tokens: Estimate
    loss: Estimate | None
    """None from a power law, which tells sizes only."""

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens.value / self.parameters.value

    def as_dict(self) -> dict[str, Any]:
        return {"flops": self.flops, "tokens_per_parameter": self.tokens_per_parameter} | numbers(
            parameters=self.parameters, tokens=self.tokens, loss=self.loss
        )


@dataclass(frozen=True)
class Curve:
    """The fitted loss of one budget, between its smallest and largest size, as values to draw a line through."""

    parameters: Array
    """(knots,) ascending, dense."""
    losses: Array
    """(knots,)"""


@dataclass(frozen=True)
class Budget:
    """One isoFLOP curve: runs that cost about the same."""

    flops: float
    """Geometric mean over its runs."""
    parameters: tuple[float, ...]
    """Distinct sizes, ascending."""
    tokens: tuple[float, ...]
    """Of each size, mean over its runs."""
    losses: tuple[float, ...]
    """Of each size, mean over its runs (seeds)."""
    runs: int
    curve: Curve | None
    """None with fewer than three sizes."""
    optimum: Optimum | None
    """None where the budget is left out."""
    excluded: str | None
    """Why it is left out."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "flops": self.flops,
            "sizes": len(self.parameters),
            "runs": self.runs,
            "optimum": self.optimum.as_dict() if self.optimum else None,
            "excluded": self.excluded,
        }


@dataclass(frozen=True)
class PowerLaw:
    """y = coefficient * flops^exponent."""

    coefficient: Estimate
    exponent: Estimate
    draws: Array
    """(draws, 2): ln coefficient and exponent of every bootstrap draw, NaN where a draw gave none."""

    def at(self, flops: float) -> Estimate:
        value = self.coefficient.value * flops**self.exponent.value
        return Estimate.of(value, np.exp(self.draws[:, 0] + self.draws[:, 1] * np.log(flops)))

    def as_dict(self) -> dict[str, Any]:
        return numbers(coefficient=self.coefficient, exponent=self.exponent)


@dataclass(frozen=True)
class IsoFlopFit:
    """Optima of every budget, and how they grow with compute: "approach 2" of Hoffmann et al. (arXiv 2203.15556)."""

    method: Method
    budgets: tuple[Budget, ...]
    """Ascending; those left out too."""
    parameters: PowerLaw | Missing
    """N_opt(C)"""
    tokens: PowerLaw | Missing
    """D_opt(C)"""

    @property
    def optima(self) -> tuple[Optimum, ...]:
        return tuple(budget.optimum for budget in self.budgets if budget.optimum)

    def optimum(self, flops: float) -> Optimum | None:
        """What to train with any budget; None where there is no power law."""
        if isinstance(self.parameters, Missing) or isinstance(self.tokens, Missing):
            return None
        return Optimum(flops, self.parameters.at(flops), self.tokens.at(flops), None)

    def as_dict(self) -> dict[str, Any]:
        return {"method": self.method, "budgets": [budget.as_dict() for budget in self.budgets]}


COEFFICIENTS = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True)
class ParametricFit:
    """loss = E + A / N^alpha + B / D^beta: "approach 3" of Hoffmann et al. (arXiv 2203.15556)."""

    method: Method
    E: Estimate
    A: Estimate
    B: Estimate
    alpha: Estimate
    beta: Estimate
    objective: float
    """huber: sum of Huber losses of log residuals; variable_projection: sum of squared relative residuals."""
    flops_per_parameter_token: float
    """C / (N D), by which a budget divides into parameters and tokens; 6 in the literature."""
    draws: Array
    """(draws, 5): E, A, B, alpha, beta of every bootstrap draw."""

    @property
    def coefficients(self) -> Array:
        """(1, 5): the estimates, in the order of COEFFICIENTS, shaped like `draws`."""
        return np.array([[getattr(self, name).value for name in COEFFICIENTS]])

    @property
    def parameters_exponent(self) -> Estimate:
        """a of N_opt ~ C^a: beta / (alpha + beta)."""
        return Estimate.of(_exponent(self.coefficients)[0], _exponent(self.draws))

    @property
    def tokens_exponent(self) -> Estimate:
        """b of D_opt ~ C^b: alpha / (alpha + beta)."""
        return Estimate.of(1 - _exponent(self.coefficients)[0], 1 - _exponent(self.draws))

    def loss(self, parameters: float, tokens: float) -> Estimate:
        """Expected loss of a model of this size after this many tokens."""
        return Estimate.of(
            surface(self.coefficients, parameters, tokens)[0], surface(self.draws, parameters, tokens)
        )  # fmt: skip

    def optimum(self, flops: float) -> Optimum:
        """The size and tokens of least loss for this budget, and that loss."""
        product = flops / self.flops_per_parameter_token
        best, drawn = _best_parameters(self.coefficients, product), _best_parameters(self.draws, product)
        return Optimum(
            flops,
            Estimate.of(best[0], drawn),
            Estimate.of(product / best[0], product / drawn),
            Estimate.of(
                surface(self.coefficients, best, product / best)[0], surface(self.draws, drawn, product / drawn)
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in COEFFICIENTS}
        return numbers(
            **named, parameters_exponent=self.parameters_exponent, tokens_exponent=self.tokens_exponent
        ) | {"objective": self.objective}  # fmt: skip


def surface(coefficients: Array, parameters: float | Array, tokens: float | Array) -> Array:
    """E + A / N^alpha + B / D^beta of each row of `coefficients` (rows, 5); N and D are numbers or (rows,)."""
    E, A, B, alpha, beta = coefficients.T
    loss: Array = E + A * parameters**-alpha + B * tokens**-beta
    return loss


def _exponent(coefficients: Array) -> Array:
    alpha, beta = coefficients[:, 3], coefficients[:, 4]
    exponent: Array = beta / (alpha + beta)
    return exponent


def _best_parameters(coefficients: Array, product: float) -> Array:
    """The N of least loss where N D = product: ((alpha A / (beta B)) product^beta)^(1 / (alpha + beta))
    (Hoffmann et al., arXiv 2203.15556, equation 4)."""
    _, A, B, alpha, beta = coefficients.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_best = (np.log(alpha * A) - np.log(beta * B) + beta * np.log(product)) / (alpha + beta)
        best: Array = np.exp(log_best)
    return best


@dataclass(frozen=True)
class Fit:
    """A study, fitted in every way, side by side."""

    study: Study
    flops_per_parameter_token: float
    """C / (N D): geometric mean over the runs."""
    quadratic: IsoFlopFit | Missing
    spline: IsoFlopFit | Missing
    parametric: ParametricFit | Missing
    """Huber loss of log residuals."""
    variable_projection: ParametricFit | Missing
    notes: tuple[str, ...]
    """What a reader should know before trusting it, a sentence each."""

    @property
    def isoflop_fits(self) -> tuple[IsoFlopFit, ...]:
        return tuple(fit for fit in (self.quadratic, self.spline) if isinstance(fit, IsoFlopFit))

    @property
    def parametric_fits(self) -> tuple[ParametricFit, ...]:
        return tuple(fit for fit in (self.parametric, self.variable_projection) if isinstance(fit, ParametricFit))

    def as_dict(self) -> dict[str, Any]:
        study = self.study
        return {
            "runs": len(study.points),
            "loss_unit": study.loss_unit,
            "convention": study.convention,
            "flops_per_parameter_token": self.flops_per_parameter_token,
            "level": LEVEL,
            "parametric": self.parametric.as_dict(),
            "variable_projection": self.variable_projection.as_dict(),
            "isoflop": {"quadratic": self.quadratic.as_dict(), "spline": self.spline.as_dict()},
            "power_laws": {
                fit.method: {"parameters": fit.parameters.as_dict(), "tokens": fit.tokens.as_dict()}
                for fit in self.isoflop_fits
            },
            "excluded": [{"name": one.name, "reason": one.reason} for one in study.excluded],
            "notes": list(self.notes),
        }


def numbers(**estimates: Estimate | None) -> dict[str, Any]:
    """{name: value, ..., "intervals": {name: [low, high] or null, ...}}"""
    return {name: estimate.value if estimate else None for name, estimate in estimates.items()} | {
        "intervals": {
            name: list(estimate.interval) if estimate.interval else None
            for name, estimate in estimates.items()
            if estimate
        }
    }
