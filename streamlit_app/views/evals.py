"""The Evals page: benchmarks by task, several models beside each other, the paired difference between two, and single
rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import streamlit as st

from streamlit_app.eval_charts import LEAST_OF_RADAR, by_category, by_task, common_tasks, differences, radar
from streamlit_app.eval_reader import TITLES, EvalResult, ResultPlace, find_results, read_result
from streamlit_app.live_files import Unreadable
from streamlit_app.row_browser import browse
from streamlit_app.runs_folder import runs_folder
from vnc.errors import UserError
from vnc.evals.compare import compare

SHOWN_AT_FIRST = 3
MEANING = (
    "0 is what guessing scores, 1 is all right. Lines are 95% intervals: how far a score could be off because other "
    "rows might have been asked."
)


@st.cache_resource(show_spinner=False, max_entries=512)
def cached_result(place: ResultPlace, stamps: object) -> EvalResult | Unreadable | None:
    """A file is read again when it has changed (`stamps`)."""
    return read_result(place)


def empty() -> None:
    st.info("No result yet. A benchmark can be run on any checkpoint:")
    st.code(
        "vnc evaluate --suite core --checkpoint runs/tiny --json runs/tiny/core.json", language="sh", wrap_lines=True
    )
    st.caption("or again and again while a model trains:")
    st.code("vnc fit --config configs/tiny.yaml --core_eval.every_n_steps 100", language="sh", wrap_lines=True)
    st.caption("Results are looked for in:")
    st.text(str(runs_folder()))


def labelled(results: Sequence[EvalResult]) -> dict[str, EvalResult]:
    """By title, with the file's name where two have the same; by model, then by step."""
    ordered = sorted(results, key=lambda result: (result.model, result.step or 0, str(result.path)))
    titles = [result.title for result in ordered]
    return {
        title if titles.count(title) == 1 else f"{title} ({result.path.relative_to(runs_folder()).as_posix()})": result
        for title, result in zip(titles, ordered, strict=True)
    }


def newest(results: Mapping[str, EvalResult]) -> list[str]:
    """The last result of each model, the latest written first; those with the tasks of the very latest."""
    last = {result.model: label for label, result in results.items()}
    labels = sorted(last.values(), key=lambda label: -results[label].written)
    asked = {task.name for task in results[labels[0]].tasks}
    alike = [label for label in labels if {task.name for task in results[label].tasks} == asked]
    return alike[:SHOWN_AT_FIRST]


def show_scores(results: Mapping[str, EvalResult]) -> None:
    rows = [
        {
            "result": label,
            **overall(result),
            "mean accuracy": fmean(task.accuracy for task in result.tasks) if result.tasks else None,
            "tasks": len(result.tasks),
            "rows": result.rows,
        }
        for label, result in results.items()
    ]
    number = st.column_config.NumberColumn
    scored = {name for result in results.values() for name in overall(result)}
    three = {name: number(format="%.3f") for name in scored}
    formats = three | {"mean accuracy": number(format="percent"), "rows": number(format="localized")}
    st.dataframe(rows, hide_index=True, column_config=formats)
    missing = [f"{label}: {task} is left out ({reason})" for label, result in results.items()
               for task, reason in result.left_out]  # fmt: skip
    if missing:
        with st.expander(f"Left out: {len(missing)}"):
            st.text("\n".join(missing))


def overall(result: EvalResult) -> dict[str, float | None]:
    """What a result is summed up by: its score with the interval, or a gauntlet's averages of categories."""
    if result.suite == "gauntlet":
        return {name.replace("_", " "): score for name, score in result.averages.items()}
    low, high = result.interval or (None, None)
    return {TITLES[result.suite]: result.score, "95% from": low, "95% to": high}


def show_categories(results: Mapping[str, EvalResult]) -> None:
    if not any(category.score is not None for result in results.values() for category in result.categories):
        st.info("No category has a score: none of their tasks was scored.")
        return
    st.altair_chart(by_category(results), width="stretch")
    st.caption(f"{MEANING} A category is the mean of its tasks, an average the mean of its categories.")
    rows = [
        {"category": category.name, "result": label, "centred": category.score,
         "95% from": category.interval[0] if category.interval else None,
         "95% to": category.interval[1] if category.interval else None,
         "tasks": len(category.tasks), "missing": ", ".join(category.missing)}
        for label, result in results.items()
        for category in result.categories
    ]  # fmt: skip
    formats = {name: st.column_config.NumberColumn(format="%.3f") for name in ("centred", "95% from", "95% to")}
    known = [name for name in rows[0] if name != "missing" or any(row["missing"] for row in rows)]
    with st.expander("As a table"):
        st.dataframe([{name: row[name] for name in known} for row in rows], hide_index=True, column_config=formats)


def show_tasks(results: Mapping[str, EvalResult]) -> None:
    st.altair_chart(by_task(results), width="stretch")
    st.caption(MEANING)
    rows = [
        {"task": task.name, "result": label, "accuracy": task.accuracy, "chance": task.baseline,
         "centred": task.centered, "95% from": task.interval[0], "95% to": task.interval[1],
         "rows": len(task.outcomes), "kind": task.kind}
        for label, result in results.items()
        for task in result.tasks
    ]  # fmt: skip
    number = st.column_config.NumberColumn
    formats = {name: number(format="%.3f") for name in ("centred", "95% from", "95% to")}
    formats |= {name: number(format="percent") for name in ("accuracy", "chance")}
    with st.expander("As a table"):
        st.dataframe(rows, hide_index=True, column_config=formats)


def show_radar(results: Mapping[str, EvalResult]) -> None:
    tasks = common_tasks(results)
    if len(tasks) < LEAST_OF_RADAR:
        kind = "categories" if any(result.categories for result in results.values()) else "tasks"
        st.info(f"A radar needs {LEAST_OF_RADAR} {kind} that all chosen results have; these have {len(tasks)}.")
        return
    left, right = st.columns(2)
    left.altair_chart(radar(results, tasks), width="content")
    right.caption("Centre: guessing, or worse. Outermost ring: all right.")
    right.text("\n".join(f"{place}. {task}" for place, task in enumerate(tasks, start=1)))


def show_comparison(results: Mapping[str, EvalResult]) -> None:
    if len(results) < 2:
        st.info("Choose two results or more above.")
        return
    labels = list(results)
    left, right = st.columns(2)
    first = left.selectbox("First", labels, index=0, key="compare_first")
    second = right.selectbox("Second", labels, index=1, key="compare_second")
    if first == second:
        st.info("Choose two different ones.")
        return
    try:
        found = compare(dict(results[first].values), dict(results[second].values), (first, second))
    except UserError as error:
        st.caption("These two cannot be compared:")
        st.text(str(error))
        return
    low, high = found.interval
    verdict = "The second is better" if low > 0 else "The first is better" if high < 0 else "No difference is certain"
    rows = sum(task.rows for task in found.tasks)
    st.markdown(f"**{verdict}**: {found.difference:+.3f} in centred score, 95% interval {low:+.3f} to {high:+.3f}, "
                f"from {rows:,} rows that both have answered.")  # fmt: skip
    st.altair_chart(differences(found, first, second), width="stretch")
    if found.alone:
        st.text(f"Only in one of them, not compared: {', '.join(found.alone)}")


def page() -> None:
    st.header("Evals", anchor=False)
    read = [(place, cached_result(place, place.stamps())) for place in find_results(runs_folder())]
    broken = [f"{place.path.relative_to(runs_folder()).as_posix()}: {found.reason}" for place, found in read
              if isinstance(found, Unreadable)]  # fmt: skip
    found = [result for _, result in read if isinstance(result, EvalResult)]
    suites = [suite for suite in TITLES if any(result.suite == suite for result in found)]
    if not suites:
        empty()
    else:
        show(found, suites)
    if broken:
        with st.expander(f"Files that cannot be read: {len(broken)}", icon=":material/warning:"):
            st.text("\n".join(broken))


def show(found: Sequence[EvalResult], suites: Sequence[str]) -> None:
    suite = suites[0]
    if len(suites) > 1:
        suite = st.segmented_control(
            "Benchmark", suites, default=suites[0], required=True, format_func=lambda name: TITLES[name]
        )
    results = labelled([result for result in found if result.suite == suite])
    key = f"evals_{suite}"
    if key in st.session_state:
        st.session_state[key] = [label for label in st.session_state[key] if label in results]
    else:
        st.session_state[key] = newest(results)
    labels = st.multiselect("Results", list(results), key=key, placeholder="Choose results to show")
    if not labels:
        st.info("Choose one or more results.")
        return
    chosen = {label: results[label] for label in labels}
    show_scores(chosen)
    by_kind = ["By category"] if any(result.categories for result in chosen.values()) else []
    *categories, tasks, picture, comparison, rows = st.tabs(
        [*by_kind, "By task", "Radar", "Compare", "Rows"], key=f"tabs_{suite}"
    )
    for place in categories:
        with place:
            show_categories(chosen)
    with tasks:
        show_tasks(chosen)
    with picture:
        show_radar(chosen)
    with comparison:
        show_comparison(chosen)
    with rows:
        browse(chosen)


page()
