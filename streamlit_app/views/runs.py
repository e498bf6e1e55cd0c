"""The Runs page: training curves while they grow, runs beside each other, and what each run was told to do."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from streamlit_app.curves import AXES, CHARTS, Axis
from streamlit_app.run_charts import chart
from streamlit_app.run_facts import settings, summary
from streamlit_app.run_reader import Run, RunPlace, failures, find_runs, read_config, read_run
from streamlit_app.runs_folder import runs_folder

REFRESH_SECONDS = 4
SHOWN_AT_FIRST = 2
KEY = "runs_chosen"


@st.cache_resource(show_spinner=False, max_entries=64)
def cached_run(place: RunPlace, stamps: object) -> Run:
    """A run is read again when one of its files has changed (`stamps`)."""
    return read_run(place)


def latest(name: str) -> Run | None:
    """The run as it is now; None when it has been removed."""
    place = next((place for place in find_runs(runs_folder()) if place.name == name), None)
    return None if place is None else cached_run(place, place.stamps())


def empty() -> None:
    st.info("No run yet. Train a first model: it takes a few minutes, on a laptop too.")
    st.code("make train", language="sh", wrap_lines=True)
    st.caption("or, with settings of your own:")
    st.code("vnc fit --config configs/tiny.yaml --name my_first", language="sh", wrap_lines=True)
    st.caption("The page fills as soon as the first steps are done. Runs are looked for in:")
    st.text(str(runs_folder()))


def choose(names: Sequence[str]) -> list[str]:
    """The runs that the user looks at."""
    if KEY in st.session_state:
        st.session_state[KEY] = [name for name in st.session_state[KEY] if name in names]
    else:
        st.session_state[KEY] = list(names[:SHOWN_AT_FIRST])
    return st.multiselect("Runs", names, key=KEY, placeholder="Choose runs to show")


def show_summary(runs: Sequence[Run]) -> None:
    number = st.column_config.NumberColumn
    rows = [summary(run) for run in runs]
    known = [column for column in rows[0] if any(row[column] is not None for row in rows)]
    st.dataframe(
        [{column: row[column] for column in known} for row in rows],
        hide_index=True,
        column_config={
            "done": st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0),
            "parameters": number(format="compact"),
            "tokens": number(format="compact"),
            "step": number(format="localized"),
            "loss": number(format="%.3f", help="Training loss in nats per token, smoothed by the run itself"),
            "bits per byte": number(format="%.4f", help="Of the latest validation"),
            "CORE": number(format="%.3f"),
            "ChatCORE": number(format="%.3f"),
            "tokens/s": number(format="localized"),
            "MFU": number(format="percent", help="Model FLOPs utilisation: share of the device's peak"),
            "hours": number(format="%.3f", help="Of training alone: without validation, benchmarks and saving"),
        },
    )


def show_troubles(runs: Sequence[Run]) -> None:
    """What went wrong, in the files' own words, which are shown as plain text."""
    for run in runs:
        lines = [*run.problems, *failures(run)]
        if run.record.get("reason"):
            lines.insert(0, f"{run.status}: {run.record['reason']}")
        if run.silent_seconds() is not None:
            lines.append("It calls itself running but has written nothing for long: it may have been killed. "
                         "The command that started it goes on from its last checkpoint.")  # fmt: skip
        if lines:
            with st.container(border=True):
                st.text("\n".join([run.name, *lines]))


def show_curves(names: Sequence[str], axis: Axis, smoothing: float) -> None:
    runs = [run for name in names if (run := latest(name)) is not None]
    if not runs:
        return
    show_summary(runs)
    show_troubles(runs)
    drawn = [(what, made) for what in CHARTS if (made := chart(runs, what, axis, smoothing)) is not None]
    if not drawn:
        st.info("Nothing to draw yet: the first steps are on their way." if axis == "steps" else
                f"None of these runs has noted its {axis}; draw them along steps.")  # fmt: skip
    for start in range(0, len(drawn), 2):
        for column, (what, made) in zip(st.columns(2), drawn[start : start + 2], strict=False):
            column.markdown(f"**{what.title}**")
            column.altair_chart(made, width="stretch")


def show_settings(names: Sequence[str]) -> None:
    runs = [run for name in names if (run := latest(name)) is not None]
    with st.expander("Plan and configuration", icon=":material/tune:"):
        differences = len(runs) > 1 and st.toggle("Only what differs", value=True)
        rows = settings(runs, differences)
        if rows:
            st.dataframe(rows, hide_index=True, height=min(420, 38 + 35 * len(rows)))
        else:
            st.caption("No difference." if differences else "These runs have no record.")
        name = st.selectbox("Configuration of", names) if len(names) > 1 else names[0]
        found = next((read_config(run.folder) for run in runs if run.name == name), None)
        if found is None:
            st.caption("It has no config.yaml.")
        else:
            st.code(found, language="yaml", height=320)


def page() -> None:
    st.header("Runs", anchor=False)
    names = [place.name for place in find_runs(runs_folder())]
    if not names:
        empty()
        st.fragment(lambda: st.rerun() if find_runs(runs_folder()) else None, run_every=REFRESH_SECONDS)()
        return
    left, middle, right = st.columns([4, 4, 3], vertical_alignment="bottom")
    with left:
        chosen = choose(names)
    axis = middle.segmented_control("Along", list(AXES), default="steps", required=True)
    smoothing = right.slider("Smoothing", 0.0, 0.99, 0.8, 0.01, help="Of the noisy curves: how much the past counts")

    def live() -> None:
        if {place.name for place in find_runs(runs_folder())} != set(names):
            st.rerun()  # one more or one less to choose from
        show_curves(chosen, axis, smoothing)

    if not chosen:
        st.info("Choose one or more runs.")
        return
    st.fragment(live, run_every=REFRESH_SECONDS)()
    show_settings(chosen)


page()
