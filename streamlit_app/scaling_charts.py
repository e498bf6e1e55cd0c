"""A study, drawn to be pointed at: isoFLOP curves with their minima, and how the best size and data grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from scaling.plots.optima import methods
from scaling.plots.style import METHOD_NAMES, quantity, scientific
from scaling.results import Fit, IsoFlopFit
from streamlit_app.palette import GREY, colours

HEIGHT = 420  # pixels, legend included
LINE_POINTS = 24
BEYOND = 10.0  # lines go on to this many times the largest run
LETTERS = "replace(upper(format(datum.value, '~s')), 'G', 'B')"  # thousands and billions as people write them


def isoflop(fit: IsoFlopFit, loss_unit: str) -> Any:
    """Loss against size, one curve for each budget; a star where it is lowest, a line for its interval."""
    names = {budget.flops: f"{scientific(budget.flops)} FLOPs" for budget in fit.budgets}
    runs = pd.DataFrame(
        [{"budget": names[budget.flops], "N": size, "D": tokens, "loss": loss, "left out": budget.excluded or ""}
         for budget in fit.budgets
         for size, tokens, loss in zip(budget.parameters, budget.tokens, budget.losses, strict=True)]
    )  # fmt: skip
    lines = pd.DataFrame(
        [{"budget": names[budget.flops], "N": size, "loss": loss}
         for budget in fit.budgets if budget.curve
         for size, loss in zip(budget.curve.parameters, budget.curve.losses, strict=True)],
        columns=["budget", "N", "loss"],
    )  # fmt: skip
    best = pd.DataFrame(
        [{"budget": names[budget.flops], "N": optimum.parameters.value, "D": optimum.tokens.value,
          "loss": optimum.loss.value if optimum.loss else None,
          "low": optimum.parameters.interval.low if optimum.parameters.interval else None,
          "high": optimum.parameters.interval.high if optimum.parameters.interval else None}
         for budget in fit.budgets if (optimum := budget.optimum)],
        columns=["budget", "N", "D", "loss", "low", "high"],
    )  # fmt: skip
    shown = list(names.values())
    colour = alt.Color("budget:N", scale=alt.Scale(domain=shown, range=colours(shown)),
                       legend=alt.Legend(orient="bottom", title=None, columns=2, symbolOpacity=1))  # fmt: skip
    x = alt.X("N:Q", title="parameters", scale=alt.Scale(type="log", nice=False),
              axis=alt.Axis(labelExpr=LETTERS, tickCount=6, grid=False))  # fmt: skip
    y = alt.Y("loss:Q", title=loss_unit, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    told = ["budget:N", alt.Tooltip("N:Q", format=".3~s"), alt.Tooltip("D:Q", format=".3~s"),
            alt.Tooltip("loss:Q", format=".4f")]  # fmt: skip
    dots = alt.Chart(runs).mark_point(filled=True, size=45, opacity=0.8)
    return alt.layer(
        alt.Chart(lines).mark_line(strokeWidth=2).encode(x, y, colour),
        dots.encode(x, y, colour, tooltip=[*told, "left out:N"]),
        alt.Chart(best).mark_rule(strokeWidth=2, color=GREY).encode(x=alt.X("low:Q"), x2="high:Q", y=y),
        alt.Chart(best).mark_point(filled=True, size=240, opacity=1, shape=STAR).encode(x, y, colour, tooltip=told),
    ).properties(height=HEIGHT)  # fmt: skip


STAR = (
    "M0,-1L0.235,-0.324L0.951,-0.309L0.38,0.124L0.588,0.809L0,0.4L-0.588,0.809L-0.38,0.124L-0.951,-0.309L-0.235,-0.324Z"
)


def growth(fit: Fit, side: Literal["parameters", "tokens"]) -> Any | None:
    """The best size or number of tokens against compute, by every method that can tell; None where none can."""
    able = methods(fit)
    if not able:
        return None
    flops = [point.flops for point in fit.study.points]
    grid = np.geomspace(min(flops), BEYOND * max(flops), LINE_POINTS)
    rows, dots = [], []
    for method in able:
        name = METHOD_NAMES[method.method]
        for budget in grid:
            found = method.optimum(float(budget))
            if found is not None:
                value = getattr(found, side)
                low, high = value.interval or (None, None)
                rows.append({"method": name, "C": budget, "value": value.value, "low": low, "high": high})
        if isinstance(method, IsoFlopFit):
            dots += [{"method": name, "C": each.flops, "value": getattr(each, side).value} for each in method.optima]
    names = list(dict.fromkeys(row["method"] for row in rows))
    title = {"parameters": "best number of parameters", "tokens": "best number of tokens"}[side]
    colour = alt.Color("method:N", scale=alt.Scale(domain=names, range=colours(names)),
                       legend=alt.Legend(orient="bottom", title=None, columns=1, symbolOpacity=1))  # fmt: skip
    x = alt.X("C:Q", title="FLOPs", scale=alt.Scale(type="log", nice=False),
              axis=alt.Axis(format=".0e", tickCount=5, grid=False))  # fmt: skip
    y = alt.Y("value:Q", title=title, scale=alt.Scale(type="log", nice=False),
              axis=alt.Axis(labelExpr=LETTERS, tickCount=6))  # fmt: skip
    lines = alt.Chart(pd.DataFrame(rows))
    points = alt.Chart(pd.DataFrame(dots, columns=["method", "C", "value"]))
    return alt.layer(
        lines.mark_area(opacity=0.12).encode(x, alt.Y("low:Q", scale=alt.Scale(type="log")), alt.Y2("high:Q"), colour),
        lines.mark_line(strokeWidth=2).encode(x, y, colour),
        points.mark_point(filled=True, size=60, opacity=1).encode(x, y, colour),
        lines.mark_point(size=90, opacity=0).encode(
            x, y, tooltip=["method:N", alt.Tooltip("C:Q", format=".2e"), alt.Tooltip("value:Q", format=".3~s"),
                           alt.Tooltip("low:Q", format=".3~s"), alt.Tooltip("high:Q", format=".3~s")]
        ),
    ).properties(height=HEIGHT)  # fmt: skip


def optima_rows(fits: Sequence[IsoFlopFit]) -> list[dict[str, Any]]:
    """A line for each budget and method: its minimum, or why it has none."""
    return [
        {
            "budget": scientific(budget.flops),
            "method": METHOD_NAMES[fit.method],
            "runs": budget.runs,
            "parameters": quantity(budget.optimum.parameters.value) if budget.optimum else None,
            "tokens": quantity(budget.optimum.tokens.value) if budget.optimum else None,
            "loss": budget.optimum.loss.value if budget.optimum and budget.optimum.loss else None,
            "left out because": budget.excluded,
        }
        for fit in fits
        for budget in fit.budgets
    ]
