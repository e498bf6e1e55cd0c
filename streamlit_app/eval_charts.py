"""Scores by task, drawn: dots with their intervals, the difference between two models, and a radar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from streamlit_app.eval_reader import EvalResult, task_names
from streamlit_app.palette import GREY, colours
from vnc.evals.compare import Comparison

ROW = 18  # pixels for each result of a task
BELOW = 70  # pixels for the axis and its title
LEAST_OF_RADAR = 3
"""Tasks; fewer are no polygon."""
RADAR_WIDTH = 340  # pixels: a phone's
RINGS = (0.25, 0.5, 0.75, 1.0)
LINES: dict[str, Any] = dict(strokeWidth=0.6, color=GREY, opacity=0.6)


def by_task(results: Mapping[str, EvalResult]) -> Any:
    """Centred scores with their 95% intervals: a band for each task, a dot in it for each result (by its label)."""
    rows = [
        {"result": label, "task": task.name, "centred": task.centered, "low": task.interval[0],
         "high": task.interval[1], "accuracy": task.accuracy, "chance": task.baseline, "rows": len(task.outcomes)}
        for label, result in results.items()
        for task in result.tasks
    ]  # fmt: skip
    more = [alt.Tooltip("accuracy:Q", format=".1%"), alt.Tooltip("chance:Q", format=".1%"),
            alt.Tooltip("rows:Q", format=",")]  # fmt: skip
    return _bands(rows, "task", list(results), more)


def by_category(results: Mapping[str, EvalResult]) -> Any:
    """The same for a gauntlet's categories that have a score."""
    rows = [
        {"result": label, "category": category.name, "centred": category.score, "low": category.interval[0],
         "high": category.interval[1], "tasks": len(category.tasks)}
        for label, result in results.items()
        for category in result.categories
        if category.score is not None and category.interval is not None
    ]  # fmt: skip
    return _bands(rows, "category", list(results), [alt.Tooltip("tasks:Q", format=",")])


def _bands(rows: Sequence[Mapping[str, Any]], what: str, labels: Sequence[str], more: Sequence[Any]) -> Any:
    """`rows`: result, `what`, centred, low, high, and what `more` tooltips tell."""
    bands = list(dict.fromkeys(str(row[what]) for row in rows))
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y(f"{what}:N", sort=bands, title=None, axis=alt.Axis(labelLimit=170, domain=False, ticks=False)),
        yOffset=alt.YOffset("result:N", sort=list(labels)),
        color=_colour(labels),
    )
    x = alt.X("centred:Q", title="centred score", axis=alt.Axis(tickCount=6, format="~g"))
    tooltip = [
        alt.Tooltip("result:N"),
        alt.Tooltip(f"{what}:N"),
        alt.Tooltip("centred:Q", format=".3f"),
        alt.Tooltip("low:Q", title="95% from", format=".3f"),
        alt.Tooltip("high:Q", title="95% to", format=".3f"),
        *more,
    ]
    intervals = base.mark_rule(strokeWidth=2, opacity=0.55).encode(x=alt.X("low:Q"), x2="high:Q")
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, tooltip=tooltip)
    height = BELOW + ROW * (len(labels) + 0.6) * len(bands) + (ROW * len(labels) if len(labels) > 1 else 0)
    return alt.layer(_zero(), intervals, dots).properties(height=height)


def differences(comparison: Comparison, first: str, second: str) -> Any:
    """Second minus first, task by task, with 95% intervals, and over all tasks."""
    names = task_names([(task.label, task.num_fewshot) for task in comparison.tasks])
    rows = [
        {"task": name, "difference": task.difference, "low": task.interval.low, "high": task.interval.high}
        for name, task in zip(names, comparison.tasks, strict=True)
    ]
    rows.append({"task": "all tasks", "difference": comparison.difference, "low": comparison.interval.low,
                 "high": comparison.interval.high})  # fmt: skip
    for row in rows:
        low, high = float(str(row["low"])), float(str(row["high"]))
        row["verdict"] = "second is better" if low > 0 else "first is better" if high < 0 else "cannot be told"
    base = alt.Chart(pd.DataFrame(rows)).encode(
        y=alt.Y("task:N", sort=["all tasks", *names], title=None, axis=alt.Axis(labelLimit=170)),
        color=alt.Color(
            "verdict:N",
            scale=alt.Scale(
                domain=["first is better", "cannot be told", "second is better"],
                range=[colours([first, second])[0], GREY, colours([first, second])[1]],
            ),
            legend=alt.Legend(orient="bottom", title=None, columns=1, symbolType="circle", symbolOpacity=1),
        ),
    )
    intervals = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("low:Q", title="second minus first", axis=alt.Axis(tickCount=6, format="~g")),
        x2="high:Q",
    )
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(
        x="difference:Q",
        tooltip=["task:N", alt.Tooltip("difference:Q", format="+.3f"), alt.Tooltip("low:Q", format="+.3f"),
                 alt.Tooltip("high:Q", format="+.3f")],
    )  # fmt: skip
    return alt.layer(_zero(), intervals, dots).properties(height=max(120, 26 * len(rows)))


def radar(results: Mapping[str, EvalResult], tasks: Sequence[str]) -> Any:
    """Centred scores on these tasks, or categories (see `scores`), which all results have, as polygons: from guessing
    or worse (the centre) to all right (the outermost ring). Spokes are numbered: 22 names would not fit around it on a
    phone."""
    bottom = -1.4 - 0.17 * len(results)
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-1.35, 1.35]))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[bottom, 1.35]))
    rings = pd.DataFrame(
        [{"ring": ring, **_point(ring, place, 72), "order": place} for ring in RINGS for place in range(73)]
    )
    spokes = pd.DataFrame(
        [{"task": task, **_point(end, place, len(tasks))} for place, task in enumerate(tasks) for end in (0, 1)]
    )
    numbers = pd.DataFrame(
        [{"text": str(place + 1), "task": task, **_point(1.15, place, len(tasks))} for place, task in enumerate(tasks)]
    )
    marks = pd.DataFrame([{"text": f"{ring:g}", "x": 0.03, "y": ring} for ring in RINGS])
    legend = pd.DataFrame(
        [{"result": label, "x": -1.3, "y": -1.42 - 0.17 * place} for place, label in enumerate(results)]
    )
    scale = alt.Scale(domain=list(results), range=colours(list(results)))
    colour = alt.Color("result:N", scale=scale, legend=None)
    polygons = alt.Chart(_polygons(results, tasks)).encode(x, y, color=colour)
    names = alt.Chart(legend).encode(x, y)
    tooltip = ["result:N", "task:N", alt.Tooltip("centred:Q", format=".3f")]
    layers = [
        alt.Chart(rings).mark_line(**LINES).encode(x, y, detail="ring:N", order="order:Q"),
        alt.Chart(spokes).mark_line(**LINES).encode(x, y, detail="task:N"),
        alt.Chart(marks).mark_text(align="left", baseline="top", fontSize=9, color=GREY).encode(x, y, text="text:N"),
        alt.Chart(numbers).mark_text(fontSize=11, color=GREY).encode(x, y, text="text:N", tooltip="task:N"),
        polygons.mark_line(strokeWidth=2).encode(order="order:Q", detail="result:N"),
        polygons.mark_point(filled=True, size=45, opacity=1).encode(tooltip=tooltip),
        names.mark_point(filled=True, size=60, opacity=1).encode(color=colour),
        names.mark_text(align="left", dx=10, color=GREY, limit=RADAR_WIDTH - 40).encode(text="result:N"),
    ]
    height = round(RADAR_WIDTH * (1.35 - bottom) / 2.7)
    return alt.layer(*layers).properties(width=RADAR_WIDTH, height=height).configure_view(strokeWidth=0)


def scores(result: EvalResult) -> dict[str, float]:
    """The centred score of each task; of each category where there are any, since a gauntlet has dozens of tasks."""
    if result.categories:
        return {category.name: category.score for category in result.categories if category.score is not None}
    return {task.name: task.centered for task in result.tasks}


def common_tasks(results: Mapping[str, EvalResult]) -> list[str]:
    """The tasks, or categories, that every result has, in the order of the first."""
    first, *others = (scores(result) for result in results.values())
    return [name for name in first if all(name in other for other in others)]


def _polygons(results: Mapping[str, EvalResult], tasks: Sequence[str]) -> pd.DataFrame:
    """The corners of each result, the first one repeated at the end."""
    corners = []
    for label, result in results.items():
        known = scores(result)
        for order, place in enumerate([*range(len(tasks)), 0]):
            score = known[tasks[place]]
            point = _point(min(1.0, max(0.0, score)), place, len(tasks))
            corners.append({"result": label, "task": tasks[place], "centred": score, "order": order, **point})
    return pd.DataFrame(corners)


def _point(radius: float, place: int, places: int) -> dict[str, float]:
    """Clockwise from the top."""
    angle = 2 * math.pi * place / places
    return {"x": radius * math.sin(angle), "y": radius * math.cos(angle)}


def _colour(labels: Sequence[str]) -> Any:
    legend = alt.Legend(orient="bottom", title=None, columns=1, labelLimit=320, symbolType="circle", symbolOpacity=1)
    return alt.Color(
        "result:N", scale=alt.Scale(domain=list(labels), range=colours(labels)),
        legend=legend if len(labels) > 1 else None,
    )  # fmt: skip


def _zero() -> Any:
    return alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=GREY, strokeDash=[3, 3]).encode(x="x:Q")
