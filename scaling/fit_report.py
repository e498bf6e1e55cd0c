"""`vnc scaling fit`: the fits of a study, for people or as JSON."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scaling.bootstrap import Progress
from scaling.fit import fit
from scaling.isoflop import LEAST_SIZES
from scaling.load import load_study
from scaling.results import COEFFICIENTS, Estimate, Fit, IsoFlopFit, Missing, ParametricFit, PowerLaw
from scaling.study import Convention, Study
from vnc.errors import UserError

SHOWN_EXCLUDED = 12
TITLES = {
    "quadratic": "isoFLOP, parabola",
    "spline": "isoFLOP, spline",
    "huber": "parametric, Huber",
    "variable_projection": "parametric, variable projection",
}
WIDENED = (
    "Losses are not symmetric in ln N, so the parabola's intervals are widened: half of its bootstrap draws are minima "
    "of the spline."
)


def fit_command(
    csv: str | None = None,
    runs: str | None = None,
    convention: Convention = "matrices_and_head",
    drop_highest: int = 0,
    json: bool = False,
) -> None:
    """Fit scaling laws to finished runs: isoFLOP optima, power laws and loss surfaces, with 95% intervals.

    Args:
        csv: File with a line for each run: parameters, loss, and FLOPs or tokens, under their usual names.
        runs: Folder that vnc's own runs are in, at any depth.
        convention: What counts as a parameter in vnc's runs: all; without_embeddings; matrices_and_head. A file has
            counted its own.
        drop_highest: Leave out this many runs of highest loss.
        json: Print JSON instead of tables.
    """
    fitted = fit_shown(load_study(csv, runs, convention, drop_highest))
    print(json_module.dumps(fitted.as_dict(), indent=1) if json else as_text(fitted))


def fit_shown(study: Study) -> Fit:
    """`fit`, with progress on the terminal. Raises UserError where nothing at all can be fitted."""
    with shown_progress() as progress:
        fitted = fit(study, progress=progress)
    if not fitted.parametric_fits and not any(one.optima for one in fitted.isoflop_fits):
        left_out = f" ({len(study.excluded)} more are left out)" if study.excluded else ""
        raise UserError(f"nothing can be fitted to {len(study.points)} runs{left_out}: {'; '.join(obstacles(fitted))}")
    return fitted


def obstacles(fitted: Fit) -> list[str]:
    """What kept each method from an answer."""
    found = [one.what for one in (fitted.parametric, fitted.spline) if isinstance(one, Missing)]
    if isinstance(fitted.spline, IsoFlopFit):
        found += [f"{one.flops:.3g} FLOPs: {one.excluded}" for one in fitted.spline.budgets if one.excluded]
    return found


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar with the time left, on a terminal only, gone when done."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("fitting"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeRemainingColumn()
    with Bar(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("fit", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def as_text(fitted: Fit) -> str:
    """The fits for people: optima by budget, exponents side by side, surfaces, what was left out."""
    study = fitted.study
    lines = [
        f"{len(study.points)} runs, loss in {study.loss_unit}, parameters: {study.convention}, "
        f"C = {fitted.flops_per_parameter_token:.3g} N D",
        "Brackets are 95% intervals from the bootstrap.",
        *([WIDENED] if isinstance(fitted.quadratic, IsoFlopFit) and fitted.quadratic.optima else []),
    ]
    for one in (fitted.quadratic, fitted.spline):
        lines += ["", *(_isoflop_lines(one) if isinstance(one, IsoFlopFit) else [f"isoFLOP: {one.what}"])]
    lines += ["", "exponents of compute", f"{'':<34}{'N_opt ~ C^a':<26}D_opt ~ C^b"]
    for name, over_n, over_d in exponents(fitted):
        lines.append(f"  {name:<32}{shown(over_n):<26}{shown(over_d)}")
    lines += ["", "loss = E + A / N^alpha + B / D^beta"]
    for surface in (fitted.parametric, fitted.variable_projection):
        lines += _surface_lines(surface)
    if study.excluded:
        lines += ["", f"left out: {len(study.excluded)} runs"]
        lines += [f"  {one.name}: {one.reason}" for one in study.excluded[:SHOWN_EXCLUDED]]
        if len(study.excluded) > SHOWN_EXCLUDED:
            lines.append(f"  and {len(study.excluded) - SHOWN_EXCLUDED} more (--json lists all)")
    lines += ["", *(f"note: {note}" for note in fitted.notes)] if fitted.notes else []
    return "\n".join(lines)


def exponents(fitted: Fit) -> list[tuple[str, Estimate, Estimate]]:
    """(method, exponent of N_opt, exponent of D_opt) by every method that gives them."""
    rows = []
    for one in fitted.isoflop_fits:
        if isinstance(one.parameters, PowerLaw) and isinstance(one.tokens, PowerLaw):
            rows.append((TITLES[one.method], one.parameters.exponent, one.tokens.exponent))
    rows += [(TITLES[one.method], one.parameters_exponent, one.tokens_exponent) for one in fitted.parametric_fits]
    return rows


def _isoflop_lines(one: IsoFlopFit) -> list[str]:
    header = f"  {'FLOPs':<10}{'sizes':>6}{'runs':>6}   {'N_opt':<30}{'D_opt':<30}loss"
    lines = [TITLES[one.method], header]
    for budget in one.budgets:
        if budget.curve is None:
            continue
        start = f"  {budget.flops:<10.3g}{len(budget.parameters):>6}{budget.runs:>6}   "
        best = budget.optimum
        if best is None or best.loss is None:
            lines.append(f"{start}left out: {budget.excluded}")
            continue
        lines.append(f"{start}{shown(best.parameters):<30}{shown(best.tokens):<30}{shown(best.loss, 4)}")
    narrow = [budget for budget in one.budgets if budget.curve is None]
    if narrow:
        lines.append(f"  left out: {len(narrow)} budgets of {sum(budget.runs for budget in narrow)} runs, with fewer "
                     f"than {LEAST_SIZES} sizes each")  # fmt: skip
    if isinstance(one.parameters, Missing):
        lines.append(f"  {one.parameters.what}")
    return lines


def _surface_lines(surface: ParametricFit | Missing) -> list[str]:
    if isinstance(surface, Missing):
        return [f"  {surface.what}"]
    numbers = [f"    {name:<8}{shown(getattr(surface, name), 5)}" for name in COEFFICIENTS]
    return [f"  {TITLES[surface.method]} (objective {surface.objective:.6g})", *numbers]


def shown(estimate: Estimate, digits: int = 3) -> str:
    """1.82 [1.77, 1.87]"""
    value = f"{estimate.value:.{digits}g}"
    if estimate.interval is None:
        return f"{value} [unknown]"
    return f"{value} [{estimate.interval.low:.{digits}g}, {estimate.interval.high:.{digits}g}]"
