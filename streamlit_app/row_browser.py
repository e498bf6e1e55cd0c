"""Row by row: what a benchmark asked, what the model preferred, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

from streamlit_app.eval_reader import EvalResult, TaskScore
from streamlit_app.eval_rows import Asked, Option, Rows, asked, compared, read_rows, why
from streamlit_app.run_reader import read_config
from vnc.errors import UserError
from vnc.evals.suites import TINYWORLD

WHICH = {"all": (True, False), "wrong": (False,), "right": (True,)}
"""What `correct` is in rows of each kind."""


@st.cache_resource(max_entries=4, show_spinner="Reading the questions ...")
def cached_rows(suite: str, folder: str | None) -> Rows:
    return read_rows(suite, folder)


def browse(results: Mapping[str, EvalResult]) -> None:
    """Choose a result (by its label), a task and a row; see all there is to know of it."""
    left, middle, right = st.columns([4, 4, 3], vertical_alignment="bottom")
    label = left.selectbox("Result", list(results), key="rows_result")
    result = results[label]
    names = [task.name for task in result.tasks]
    task = result.tasks[names.index(middle.selectbox("Task", names, key="rows_task"))]
    which = right.segmented_control("Rows that are", list(WHICH), default="all", required=True, key="rows_which")
    places = [place for place, outcome in enumerate(task.outcomes) if bool(outcome["correct"]) in WHICH[which]]
    if not places:
        st.info(f"No row is {which}.")
        return
    number = st.number_input(f"Row (1 to {len(places):,})", 1, len(places), 1, key=f"row_{label}_{task.name}_{which}")
    place = places[int(number) - 1]
    texts = find_texts(result, task, place)
    outcome = task.outcomes[place]
    st.caption(
        f"Row {int(outcome['row']):,} of the task's file, asked at place {place + 1:,} of {len(task.outcomes):,}"
    )
    show_asked(texts)
    show_answer(outcome, texts)


def find_texts(result: EvalResult, task: TaskScore, place: int) -> Asked | None:
    """From the benchmark's files; None where they are not at hand, which is said."""
    folder = st.text_input(
        "Folder of the benchmark",
        value=known_folder(result) or "",
        placeholder="where its questions lie",
        key=f"folder_{result.path}",
        help="The folder given as --bundle when this result was made; it is needed to show the questions.",
    )
    try:
        named = folder.strip()
        rows = cached_rows(result.suite, str(Path(named).absolute()) if named not in ("", TINYWORLD) else named or None)
        return asked(rows, task.label, task.num_fewshot, task.outcomes, place)
    except UserError as error:
        st.caption("The questions cannot be shown, only what became of them:")
        st.text(str(error))
        return None


def known_folder(result: EvalResult) -> str | None:
    """Where the questions came from, by the result itself or by its run's configuration."""
    if result.bundle is not None or result.step is None:
        return result.bundle
    try:
        config = yaml.safe_load(read_config(result.path.parent.parent) or "")
        folder = config[f"{result.suite}_eval"]["bundle"]
    except (yaml.YAMLError, KeyError, TypeError):
        return None
    if folder is None:
        return TINYWORLD if result.suite == "core" else None
    return str(Path(str(folder)))


def show_asked(texts: Asked | None) -> None:
    """All of it as it stands: no part of a file is taken for Markdown or HTML."""
    if texts is None:
        return
    if texts.before:
        with st.expander("Solved examples that stand before the question"):
            st.code(texts.before, language=None, wrap_lines=True)
    st.markdown("**Question**")
    st.code(texts.question, language=None, wrap_lines=True)
    if texts.expected is not None:
        st.markdown("**Expected**")
        st.code(texts.expected, language=None, wrap_lines=True)


def show_answer(outcome: Mapping[str, Any], texts: Asked | None) -> None:
    (st.success if outcome["correct"] else st.warning)(why(outcome))
    for option in compared(outcome, texts):
        with st.container(border=True):
            st.markdown(headline(option))
            if option.text is not None:
                st.text(option.text)
    if "answer" in outcome:
        st.markdown("**What the model wrote**")
        st.code(str(outcome["answer"]), language=None, wrap_lines=True)
        if texts is None or texts.expected is None:
            st.markdown("**Expected**")
            st.code(str(outcome.get("expected", "")), language=None, wrap_lines=True)


def headline(option: Option) -> str:
    parts = [f"**{option.letter}**"]
    parts += [":blue-badge[preferred]"] if option.preferred else []
    parts += [":green-badge[right answer]"] if option.right else []
    parts.append("no token of its own" if option.loss is None else f"{option.loss:.3f} nats per token")
    return " &nbsp; ".join(parts)
