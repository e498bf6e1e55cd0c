"""Curves of runs, drawn: one chart for each number, all runs in it, the same colour for a run in every chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from streamlit_app.curves import Axis, Chart, Curve, curve, thinned
from streamlit_app.palette import GREY, colours
from streamlit_app.run_reader import Run

HEIGHT = 270  # pixels, legend included
MOST_POINTS_OF_ALL = 4_000  # of all curves of a chart
TOUCHED_POINTS = 60  # of a curve, to be pointed at: each is an element of its own in the browser
AXIS_FORMAT = {"steps": "~s", "tokens": "~s", "FLOPs": ".1~e", "hours": "~g"}


def chart(runs: Sequence[Run], what: Chart, axis: Axis, smoothing: float) -> Any:
    """One number of these runs; None where none of them has it on this axis."""
    weight = smoothing if what.smoothed else 0.0
    points = max(200, min(1_000, MOST_POINTS_OF_ALL // max(1, len(runs))))
    curves = {run.name: curve(run.metrics, what.metric, axis, weight, points) for run in runs}
    drawn = {name: found for name, found in curves.items() if found is not None}
    if not drawn:
        return None
    names = [run.name for run in runs]
    colour = alt.Color(
        "run:N",
        scale=alt.Scale(domain=names, range=colours(names)),
        legend=alt.Legend(orient="bottom", title=None, columns=2, labelLimit=220, symbolType="stroke", symbolOpacity=1)
        if len(names) > 1
        else None,
    )
    x = alt.X("x:Q", title=axis, axis=alt.Axis(format=AXIS_FORMAT[axis], grid=False, tickCount=6))
    y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format=_axis_format(what), tickCount=5))
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("x:Q", title=axis, format=",.4~g" if axis == "hours" else ",.4~s"),
        alt.Tooltip("y:Q", title=what.title, format=what.format),
    ]
    layers: list[Any] = []
    if weight:
        raw = {run.name: curve(run.metrics, what.metric, axis, 0.0, points) for run in runs}
        faint = alt.Chart(_frame({name: found for name, found in raw.items() if found is not None}))
        layers.append(faint.mark_line(strokeWidth=1, opacity=0.4).encode(x, y, colour))
    layers.append(alt.Chart(_frame(drawn)).mark_line(strokeWidth=2).encode(x, y, colour))
    few = {name: found for name, found in drawn.items() if len(found.x) <= 30}
    if few:
        layers.append(alt.Chart(_frame(few)).mark_point(filled=True, size=45, opacity=1).encode(x, y, colour))
    touched = {name: thinned(found, TOUCHED_POINTS) for name, found in drawn.items()}
    layers.append(alt.Chart(_frame(touched)).mark_point(opacity=0, size=120).encode(x, y, tooltip=tooltip))
    layers += _floor(runs, what)
    return alt.layer(*layers).properties(height=HEIGHT)


def _floor(runs: Sequence[Run], what: Chart) -> list[Any]:
    """A line at the least value possible, where the runs agree on one."""
    floors = {run.record.get(what.floor) for run in runs} if what.floor else set()
    if len(floors) != 1 or not isinstance(floor := floors.pop(), int | float):
        return []
    data = pd.DataFrame({"y": [float(floor)], "text": ["least possible"]})
    rule = alt.Chart(data).mark_rule(strokeDash=[4, 4], color=GREY).encode(y="y:Q")
    text = alt.Chart(data).mark_text(align="left", baseline="bottom", dx=4, dy=-2, color=GREY)
    return [rule, text.encode(x=alt.value(0), y="y:Q", text="text:N")]


def _axis_format(what: Chart) -> str:
    return {".1%": ".1~%", ".3s": "~s", ".2e": ".1~e"}.get(what.format, "~g")


def _frame(curves: dict[str, Curve]) -> pd.DataFrame:
    """Long form: run, x, y."""
    parts = [pd.DataFrame({"run": name, "x": found.x, "y": found.y}) for name, found in curves.items()]
    return pd.concat(parts, ignore_index=True)
