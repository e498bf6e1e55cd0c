"""Fit a study in every way of the literature, side by side; every number gets an interval (scaling/results.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scaling.bootstrap import (
    DRAWS,
    UNKNOWNS,
    Progress,
    huber_draws,
    minima_draws,
    projection_draws,
    resampled_weights,
)
from scaling.isoflop import LEAST_SIZES, Group, Minima, curves, group_by_budget, minima, splines_of, why_no_minimum
from scaling.parametric import fit_huber
from scaling.power_law import power_law
from scaling.results import (
    Array,
    Budget,
    Curve,
    Estimate,
    Fit,
    IsoFlopFit,
    Method,
    Missing,
    Optimum,
    ParametricFit,
    PowerLaw,
)
from scaling.study import Study
from scaling.variable_projection import fit_variable_projection

LEAST_CELLS = UNKNOWNS + 1


def ignore(share: float) -> None:
    """Progress that nobody watches."""


def fit(study: Study, draws: int = DRAWS, progress: Progress = ignore) -> Fit:
    """All fits of a study, with `draws` bootstrap draws behind every interval. The same study gives the same fit."""
    log_n, log_d, log_c, losses = _columns(study)
    ratio = float(np.exp((log_c - log_n - log_d).mean())) if len(losses) else float("nan")
    groups = group_by_budget(study.points)
    weights = resampled_weights(log_n, log_d, draws) if len(losses) else np.empty((0, 0))
    lacking = lacks_for_surface(log_n, log_d, groups)

    def surface(method: Method, start: float) -> ParametricFit | Missing:
        if lacking:
            return Missing(lacking)
        return _surface_fit(method, log_n, log_d, losses, ratio, weights, lambda share: progress(start + share * 0.45))

    quadratic = isoflop_fit(groups, "quadratic", draws)
    spline = isoflop_fit(groups, "spline", draws)
    progress(0.1)
    parametric, projection = surface("huber", 0.1), surface("variable_projection", 0.55)
    progress(1.0)
    notes = (
        *study.notes, *_sizes_notes(groups), *_symmetry_notes(quadratic, spline),
        *_boundary_notes(parametric, projection),
    )  # fmt: skip
    return Fit(study, ratio, quadratic, spline, parametric, projection, notes)


def _columns(study: Study) -> tuple[Array, Array, Array, Array]:
    """ln N, ln D, ln C and the losses, (runs,) each."""
    values = np.array([(p.parameters, p.tokens, p.flops, p.loss) for p in study.points]).reshape(-1, 4)
    logs = np.log(values[:, :3])
    return logs[:, 0], logs[:, 1], logs[:, 2], values[:, 3]


def lacks_for_surface(log_n: Array, log_d: Array, groups: Sequence[Group]) -> str:
    """What the parametric fit would need and does not have; empty when nothing."""
    cells = len({*zip(log_n.tolist(), log_d.tolist(), strict=True)})
    sizes, lengths = len(np.unique(log_n)), len(np.unique(log_d))
    wants = []
    if cells < LEAST_CELLS:
        wants.append(f"{LEAST_CELLS} runs that differ in size or tokens (there are {cells})")
    if sizes < 3:
        wants.append(f"3 sizes (there are {sizes})")
    if lengths < 3:
        wants.append(f"3 numbers of tokens (there are {lengths})")
    if len(groups) < 2:
        wants.append(f"2 budgets, since within one tokens follow from size (there are {len(groups)})")
    return f"E + A / N^alpha + B / D^beta needs at least {', '.join(wants)}" if wants else ""


def isoflop_fit(groups: Sequence[Group], method: Method, draws: int) -> IsoFlopFit | Missing:
    """Curves, minima and power laws of budgets, ascending."""
    wide = [group for group in groups if len(group.sizes) >= LEAST_SIZES]
    if not wide:
        most = max((len(group.sizes) for group in groups), default=0)
        return Missing(f"isoFLOP curves need at least {LEAST_SIZES} sizes at one budget (the most at one is {most})")
    candidates = splines_of(wide)
    drawn, fitted = minima_draws(wide, candidates, draws, method), curves(wide, candidates, method)
    budgets, found, found_draws = [], [], []
    for group in groups:
        if len(group.sizes) < LEAST_SIZES:
            sizes = len(group.sizes)
            budgets.append(_budget(group, None, None, f"{sizes} size{'s' * (sizes > 1)}, {LEAST_SIZES} are needed"))
            continue
        place = next(i for i, one in enumerate(wide) if one is group)
        log_n, losses = fitted[place]
        lowest = minima(group, log_n, losses[None])
        line = Curve(np.exp(log_n), losses)
        if np.isnan(lowest.log_n[0]):
            budgets.append(_budget(group, line, None, why_no_minimum(group, line.losses)))
            continue
        budgets.append(_budget(group, line, _optimum(group.flops, lowest, drawn[place]), None))
        found.append((np.log(group.flops), lowest))
        found_draws.append(drawn[place])
    if len(found) < 2:
        law: PowerLaw | Missing = Missing(f"a power law needs optima of 2 budgets, better 3 (there are {len(found)})")
        return IsoFlopFit(method, tuple(budgets), law, law)
    log_flops = np.array([flops for flops, _ in found])

    def over_compute(logs: Callable[[Minima], Array]) -> PowerLaw:
        estimate = power_law(log_flops, np.stack([logs(lowest) for _, lowest in found], axis=1))[0]
        drawn_laws = power_law(log_flops, np.stack([logs(one) for one in found_draws], axis=1))
        return make_power_law(estimate, drawn_laws)

    return IsoFlopFit(method, tuple(budgets), over_compute(lambda one: one.log_n), over_compute(lambda one: one.log_d))


def make_power_law(estimate: Array, draws: Array) -> PowerLaw:
    """From ln k and a (2,), and those of every draw (draws, 2)."""
    return PowerLaw(
        Estimate.of(np.exp(estimate[0]), np.exp(draws[:, 0])), Estimate.of(estimate[1], draws[:, 1]), draws
    )  # fmt: skip


def _optimum(flops: float, lowest: Minima, drawn: Minima) -> Optimum:
    return Optimum(
        flops,
        Estimate.of(np.exp(lowest.log_n[0]), np.exp(drawn.log_n)),
        Estimate.of(np.exp(lowest.log_d[0]), np.exp(drawn.log_d)),
        Estimate.of(lowest.losses[0], drawn.losses),
    )


def _budget(group: Group, curve: Curve | None, optimum: Optimum | None, excluded: str | None) -> Budget:
    return Budget(
        group.flops,
        tuple(np.exp(group.sizes).tolist()),
        tuple(group.by_size(np.exp(group.log_d)).tolist()),
        tuple(group.by_size(group.losses).tolist()),
        len(group.losses),
        curve,
        optimum,
        excluded,
    )


def _surface_fit(
    method: Method, log_n: Array, log_d: Array, losses: Array, ratio: float, weights: Array, progress: Progress
) -> ParametricFit:
    if method == "huber":
        theta, objective = fit_huber(log_n, log_d, np.log(losses))
        coefficients = np.concatenate([np.exp(theta[:3]), theta[3:]])
        draws = huber_draws(theta, log_n, log_d, losses, weights, progress)
    else:
        coefficients, objective = fit_variable_projection(log_n, log_d, losses)
        draws = projection_draws(coefficients, log_n, log_d, losses, weights, progress)
    E, A, B, alpha, beta = (Estimate.of(value, draws[:, place]) for place, value in enumerate(coefficients))
    return ParametricFit(method, E, A, B, alpha, beta, objective, ratio, draws)


def _sizes_notes(groups: Sequence[Group]) -> list[str]:
    """Curves that nothing but a parabola can be drawn through."""
    most = max((len(group.sizes) for group in groups), default=0)
    if most != LEAST_SIZES:
        return []
    only = f"{most} sizes a budget determine a parabola and nothing beyond it"
    return [f"{only}: the intervals of isoFLOP optima know of noise, not of losses that are not symmetric in ln N"]


def _symmetry_notes(quadratic: IsoFlopFit | Missing, spline: IsoFlopFit | Missing) -> list[str]:
    """Budgets whose parabola the losses contradict: its minimum is outside the spline's interval."""
    if isinstance(quadratic, Missing) or isinstance(spline, Missing):
        return []
    bent = []
    for parabola, free in zip(quadratic.budgets, spline.budgets, strict=True):
        if parabola.optimum is None or free.optimum is None:
            continue
        interval = free.optimum.parameters.interval
        if interval and not interval.low <= parabola.optimum.parameters.value <= interval.high:
            bent.append(f"{free.flops:.3g}")
    if not bent:
        return []
    where = f"losses are not symmetric in ln N at {', '.join(bent)} FLOPs"
    return [f"{where}: the parabola's optima there are off, trust the spline's, to which its intervals reach"]


def _boundary_notes(*fits: ParametricFit | Missing) -> list[str]:
    """Surfaces with a term that the runs could do without."""
    notes = []
    for one in fits:
        if isinstance(one, ParametricFit):
            absent = [name for name in ("E", "A", "B") if getattr(one, name).value < 1e-3]
            if absent:
                names = " and ".join(absent)
                notes.append(f"{one.method}: {names} came out as 0, so the runs do not determine the surface")
    return notes
