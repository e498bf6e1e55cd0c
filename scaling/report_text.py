"""The text of a study's report, in Markdown: the answer first, then what it rests on. Pure: a fit in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaling.fit_report import TITLES, WIDENED
from scaling.plots.optima import exponent, said
from scaling.plots.style import convention_name, quantity, runs, scientific
from scaling.predict import Nearest, Prediction
from scaling.results import COEFFICIENTS, Estimate, Fit, IsoFlopFit, Missing, Optimum, ParametricFit, PowerLaw

HEADING = "# What to train with how much compute"
DISAGREE = 1.5
"""A reader is warned where the methods' sizes differ by more than this factor."""
ENOUGH_OPTIMA = 3
"""Fewer cannot contradict a power law."""
LITERATURE = (
    ("Hoffmann et al. 2022, approach 2", 0.49, 0.51),  # arXiv 2203.15556, table 2
    # beta / (alpha + beta) of their table 2, arXiv 2404.10102
    ("Besiroglu et al. 2024, from alpha 0.3478, beta 0.3658", 0.3658 / 0.7136, 0.3478 / 0.7136),
)


@dataclass(frozen=True)
class Picture:
    """A figure in the report."""

    name: str
    """NAME.png and NAME.svg lie beside the report."""
    title: str
    caption: str


def report(fit: Fit, predictions: Sequence[Prediction], pictures: Sequence[Picture], commands: Sequence[str]) -> str:
    """The whole report. predictions: of the budgets to answer for, ascending; none where no method can extrapolate."""
    sections = [
        HEADING,
        *answer(fit, predictions),
        "## Optima of the budgets",
        *optima_tables(fit),
        "## Exponents, by every method",
        *exponent_table(fit),
        "## What was left out",
        left_out(fit),
        *([] if not fit.notes else ["## To know before trusting it", "\n".join(f"- {note}" for note in fit.notes)]),
        *(["## Figures"] if pictures else []),
        *(
            f"![{one.title}]({one.name}.png)\n\n*{one.title}.* {one.caption} ([SVG]({one.name}.svg))"
            for one in pictures
        ),
        "## Made by",
        "```sh\n" + "\n".join(commands) + "\n```",
    ]
    return "\n\n".join(sections) + "\n"


def answer(fit: Fit, predictions: Sequence[Prediction]) -> list[str]:
    """The question's answer: a sentence for the nearest budget, a table for all, by every method that has one."""
    basis = (
        f"From {runs(len(fit.study.points))}; N counts {convention_name(fit.study.convention)}, "
        f"loss is in {fit.study.loss_unit}, brackets are 95% intervals."
    )
    if not predictions:
        return ["**No method can tell yet.** What it would take:", missing_list(fit), basis]
    method, best = predictions[0].optima[0]
    lines = [
        f"**With {scientific(best.flops)} FLOPs, train {amount(best.parameters)} parameters on {amount(best.tokens)} "
        f"tokens**: {best.tokens_per_parameter:.3g} tokens per parameter ({TITLES[method]})."
        + (f" {nearest_sentence(predictions[0].nearest)}" if predictions[0].nearest else ""),
        basis,
    ]
    rows = [
        [scientific(one.flops), TITLES[name], *optimum_cells(found)]
        for one in predictions
        for name, found in one.optima
    ]
    lines.append(table(["FLOPs", "method", "parameters", "tokens", "D / N", "loss"], rows))
    near = [one for one in predictions if one.nearest]
    if near:
        lines.append("As models of `vnc`:")
        lines.append(table(["FLOPs", "depth", "parameters", "tokens", "expected loss"], nearest_rows(near)))
    farthest = predictions[-1]
    sizes = [found.parameters.value for _, found in farthest.optima]
    if max(sizes) > DISAGREE * min(sizes):
        lines.append(
            f"**The methods disagree**: at {scientific(farthest.flops)} FLOPs their sizes differ by a factor of "
            f"{max(sizes) / min(sizes):.2g}. Trust none of them that far without more runs."
        )
    few = [one for one in fit.isoflop_fits if isinstance(one.parameters, PowerLaw) and len(one.optima) < ENOUGH_OPTIMA]
    if few:
        names = " and ".join(TITLES[one.method] for one in few)
        lines.append(
            f"**Two optima only** carry the power law by {names}: a line goes through any two points, so nothing shows "
            "whether they lie on one. Runs at a further budget would."
        )
    largest = max(point.flops for point in fit.study.points)
    if farthest.flops > largest:
        lines.append(
            f"The largest run of the study took {scientific(largest)} FLOPs; {scientific(farthest.flops)} lies "
            f"{farthest.flops / largest:.3g} times beyond it. Intervals tell of noise between runs. They do not tell "
            "whether the law still holds out there."
        )
    return lines


def nearest_sentence(near: Nearest) -> str:
    return f"The nearest model of `vnc` is depth {near.plan.depth}, on {quantity(near.plan.train_tokens)} tokens."


def nearest_rows(predictions: Sequence[Prediction]) -> list[list[str]]:
    """Rows of the table of depths."""
    return [
        [scientific(one.flops), str(near.plan.depth), quantity(near.parameters), quantity(near.plan.train_tokens),
         said(near.loss, 4) if near.loss else "–"]
        for one in predictions if (near := one.nearest)
    ]  # fmt: skip


def optima_tables(fit: Fit) -> list[str]:
    """A table of the budgets with an optimum for each isoFLOP method."""
    head = ["FLOPs", "runs", "sizes", "optimal parameters", "tokens", "D / N", "loss"]
    blocks = []
    for one in fit.isoflop_fits:
        rows = [
            [scientific(budget.flops), str(budget.runs), str(len(budget.parameters)), *optimum_cells(budget.optimum)]
            for budget in one.budgets
            if budget.optimum
        ]
        title = f"{TITLES[one.method].replace('isoFLOP', 'IsoFLOP')}, {len(rows)} of {len(one.budgets)} budgets:"
        blocks += [title, table(head, rows)] if rows else [f"{title} none has a minimum between its sizes."]
        if rows and one.method == "quadratic":
            blocks.append(WIDENED)
    return blocks or [missing_list(fit)]


def optimum_cells(best: Optimum) -> list[str]:
    loss = said(best.loss, 4) if best.loss else "–"
    return [amount(best.parameters), amount(best.tokens), f"{best.tokens_per_parameter:.3g}", loss]


def exponent_table(fit: Fit) -> list[str]:
    """Exponents of all methods side by side, with the literature's below, and the parametric coefficients."""
    rows = [exponent_cells(method) for method in fit.isoflop_fits] + [
        exponent_cells(one) for one in fit.parametric_fits
    ]
    rows += [[name, f"{a:.2f}", f"{b:.2f}"] for name, a, b in LITERATURE]
    blocks = [table(["method", "a in N ∝ C^a", "b in D ∝ C^b"], rows)]
    if fit.parametric_fits:
        surfaces = [
            [TITLES[one.method], *(coefficient(name, getattr(one, name)) for name in COEFFICIENTS)]
            for one in fit.parametric_fits
        ]
        blocks.append("Loss = E + A / N^alpha + B / D^beta:")
        blocks.append(table(["method", *COEFFICIENTS], surfaces))
    return blocks


def exponent_cells(method: IsoFlopFit | ParametricFit) -> list[str]:
    a, b = exponent(method, "parameters"), exponent(method, "tokens")
    return [TITLES[method.method], said(a, 3) if a else "–", said(b, 3) if b else "–"]


def coefficient(name: str, estimate: Estimate) -> str:
    """A and B span orders of magnitude; the others are of the order of 1."""
    return amount(estimate) if name in ("A", "B") else said(estimate, 3)


def left_out(fit: Fit) -> str:
    """Runs, budgets and methods without a part in the answer, each with its reason; equal reasons in one line."""
    lines = [f"- run {one.name}: {one.reason}" for one in fit.study.excluded]
    by_reason: dict[str, dict[str, list[str]]] = {}  # reason -> budget -> methods
    for one in fit.isoflop_fits:
        for budget in one.budgets:
            if budget.excluded:
                methods = by_reason.setdefault(budget.excluded, {}).setdefault(scientific(budget.flops), [])
                methods.append(TITLES[one.method])
    for reason, budgets in by_reason.items():
        names = {flops: "" if len(by) == len(fit.isoflop_fits) else f" ({by[0]})" for flops, by in budgets.items()}
        plural = "budgets" if len(names) > 1 else "budget"
        lines.append(f"- {plural} {', '.join(flops + by for flops, by in names.items())}: {reason}")
    missing = missing_list(fit)
    return "\n".join([*lines, *([missing] if missing else [])]) or "Nothing."


def missing_list(fit: Fit) -> str:
    """The methods without a fit, and what each would take."""
    kinds = {
        "quadratic": fit.quadratic,
        "spline": fit.spline,
        "huber": fit.parametric,
        "variable_projection": fit.variable_projection,
    }
    lines = [f"- {TITLES[method]}: {one.what}" for method, one in kinds.items() if isinstance(one, Missing)]
    for one in fit.isoflop_fits:
        if isinstance(one.parameters, Missing):
            lines.append(f"- power law of {TITLES[one.method]}: {one.parameters.what}")
    return "\n".join(lines)


def amount(estimate: Estimate) -> str:
    """ "341M [320M, 365M]"."""
    if estimate.interval is None:
        return quantity(estimate.value)
    return f"{quantity(estimate.value)} [{quantity(estimate.interval.low)}, {quantity(estimate.interval.high)}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells are text without newlines."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
