"""Row by row: what a benchmark asked, what the model preferred, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

from streamlit_app.eval_reader import EvalResult, TaskScore
from streamlit_app.eval_rows import Asked, Option, Rows, asked, compared, differing, read_rows, why
from streamlit_app.reach import only_this_machine
from streamlit_app.run_reader import read_config
from streamlit_app.runs_folder import lies_within, runs_folder
from vnc.errors import UserError
from vnc.evals.suites import TINYWORLD

WHICH = {"all": (True, False), "wrong": (False,), "right": (True,)}
"""What `correct` is in rows of each kind."""
DIFFERENT = "different"
"""Rows that one model got right and another wrong."""


@st.cache_resource(max_entries=4, show_spinner="Reading the questions ...")
def cached_rows(suite: str, folder: str | None) -> Rows:
    return read_rows(suite, folder)


def browse(results: Mapping[str, EvalResult]) -> None:
    """Choose a result (by its label), a task and a row; see all there is to know of it."""
    left, middle, right = st.columns([4, 4, 4], vertical_alignment="bottom")
    label = left.selectbox("Result", list(results), key="rows_result")
    result = results[label]
    names = [task.name for task in result.tasks]
    task = result.tasks[names.index(middle.selectbox("Task", names, key="rows_task"))]
    kinds = [*WHICH, DIFFERENT]
    which = right.segmented_control("Rows that are", kinds, default="all", required=True, key="rows_which",
                                    help="Different: one model is right, another wrong.")  # fmt: skip
    if which == DIFFERENT:
        browse_different(results, label, task)
        return
    places = [place for place, outcome in enumerate(task.outcomes) if bool(outcome["correct"]) in WHICH[which]]
    if not places:
        st.info(f"No row is {which}.")
        return
    place = places[choose_row(len(places), f"{label}_{task.name}_{which}")]
    texts = show_row(result, task, place)
    show_answer(task.outcomes[place], texts)


def browse_different(results: Mapping[str, EvalResult], label: str, task: TaskScore) -> None:
    """The rows of a task on which another result came to another end, both answers beside each other."""
    others = {
        name: other
        for name, result in results.items()
        if name != label
        for other in result.tasks
        if other.name == task.name
    }
    if not others:
        st.info("Choose another result with this task above, to see the rows on which the two differ.")
        return
    name = st.selectbox("Different from", list(others), key="rows_other")
    other = others[name]
    pairs = differing(task.outcomes, other.outcomes)
    if not pairs:
        st.info("On every row that both have answered, both are right or both are wrong.")
        show_differing_tasks(results[label], results[name])
        return
    here, there = pairs[choose_row(len(pairs), f"{label}_{name}_{task.name}")]
    texts = show_row(results[label], task, here)
    answers = ((label, task.outcomes[here]), (name, other.outcomes[there]))
    for column, (model, outcome) in zip(st.columns(2), answers, strict=True):
        with column:
            st.text(model)
            show_answer(outcome, texts)


def show_differing_tasks(first: EvalResult, second: EvalResult) -> None:
    """The tasks in which there is something to see."""
    others = {task.name: task.outcomes for task in second.tasks}
    counts = {task.name: len(differing(task.outcomes, others.get(task.name, ()))) for task in first.tasks}
    if any(counts.values()):
        st.caption("Rows on which they differ, by task:")
        st.text("\n".join(f"{task}: {count:,}" for task, count in counts.items() if count))


def choose_row(count: int, key: str) -> int:
    """Counted from 0."""
    return int(st.number_input(f"Row (1 to {count:,})", 1, count, 1, key=f"row_{key}")) - 1


def show_row(result: EvalResult, task: TaskScore, place: int) -> Asked | None:
    """What was asked, where the benchmark's files are at hand."""
    texts = find_texts(result, task, place)
    row = int(task.outcomes[place]["row"])
    st.caption(f"Row {row:,} of the task's file, asked at place {place + 1:,} of {len(task.outcomes):,}")
    show_asked(texts)
    return texts


def find_texts(result: EvalResult, task: TaskScore, place: int) -> Asked | None:
    """From the benchmark's files; None where they are not at hand, which is said."""
    try:
        folder = choose_folder(result)
        return asked(cached_rows(result.suite, folder), task.label, task.num_fewshot, task.outcomes, place)
    except UserError as error:
        st.caption("The questions cannot be shown, only what became of them:")
        st.text(str(error))
        return None


def choose_folder(result: EvalResult) -> str | None:
    """Where the questions lie. Whoever sits at this machine may name any folder; where others can reach the app, it is
    the one that the result names, below the runs folder or nowhere. Raises UserError."""
    known = known_folder(result)
    if not only_this_machine():
        if known in (None, TINYWORLD):
            return known
        if not lies_within(Path(str(known)), runs_folder()):
            raise UserError("they lie outside the runs folder, where an app that others can reach opens nothing; put "
                            "the benchmark's folder into it, or start vnc app without --address")  # fmt: skip
        return str(Path(str(known)).resolve())
    named = st.text_input(
        "Folder of the benchmark",
        value=known or "",
        placeholder="where its questions lie",
        key=f"folder_{result.path}",
        help="The folder given as --bundle when this result was made; it is needed to show the questions.",
    ).strip()
    return str(Path(named).absolute()) if named not in ("", TINYWORLD) else named or None


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
