"""The chat page's controls: which checkpoints, how they draw, how much they say; and the page's empty state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from streamlit_app import text_view
from streamlit_app.chat_server import LONGEST_ANSWER
from streamlit_app.chat_session import Settings
from streamlit_app.checkpoints import Checkpoint
from vnc.chat import BASE_TEMPERATURE, CHAT_TEMPERATURE
from vnc.sampling import Sampling

NO_LIMIT = 0  # of top-k, as the control says it
SIDES = ("left", "right")


def choose_checkpoints(usable: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """One checkpoint, or two to compare."""
    by_name = {each.name: each for each in usable}
    st.session_state.setdefault("chat_compare", False)
    comparing = st.session_state["chat_compare"]
    row = st.container(horizontal=True, vertical_alignment="bottom")
    names = []
    for place, side in enumerate(SIDES if comparing else SIDES[:1]):
        key = f"chat_checkpoint_{side}"
        if st.session_state.get(key) not in by_name:  # at first, and after it was deleted
            st.session_state[key] = usable[min(place, len(usable) - 1)].name
            if place == 0:
                _take_usual_temperature(by_name[st.session_state[key]])
        names.append(
            row.selectbox(
                f"Model at the {side}" if comparing else "Model",
                list(by_name),
                key=key,
                format_func=lambda name: by_name[name].label,
                on_change=lambda key=key, place=place: (
                    None if place else _take_usual_temperature(by_name[st.session_state[key]])
                ),
                persist_state="session",
            )
        )
    row.toggle("Compare two", key="chat_compare", persist_state="session")
    return tuple(by_name[name] for name in names)


def choose_settings(checkpoints: tuple[Checkpoint, ...]) -> Settings:
    """What the sidebar says."""
    st.session_state.setdefault("chat_temperature", CHAT_TEMPERATURE)
    temperature = st.slider(
        "Temperature", 0.0, 2.0, step=0.05, key="chat_temperature", persist_state="session",
        help="0 takes the likeliest token each time; 1 draws as the model's own probabilities say; more is wilder.",
    )  # fmt: skip
    top_k = st.number_input(
        "Top-k", NO_LIMIT, 1_000_000, NO_LIMIT, key="chat_top_k", persist_state="session",
        help="Draw among this many of the likeliest tokens only. 0: among all.",
    )  # fmt: skip
    top_p = st.slider(
        "Top-p", 0.05, 1.0, 1.0, step=0.05, key="chat_top_p", persist_state="session",
        help="Draw among the fewest of the likeliest tokens that make up this share of the probability.",
    )  # fmt: skip
    seed = st.number_input(
        "Seed", 0, 2**53 - 1, 0, key="chat_seed", persist_state="session",
        help="The same seed, settings and questions repeat a chat; each answer after the first adds one to it.",
    )  # fmt: skip
    max_tokens = st.number_input(
        "Longest answer, in tokens", 1, LONGEST_ANSWER, 256, key="chat_max_tokens", persist_state="session"
    )
    system = ""
    if any(each.kind == "chat" for each in checkpoints):
        system = st.text_area(
            "System prompt", key="chat_system", persist_state="session",
            help="Read before the conversation. It helps models that were trained with one; leave it empty otherwise.",
        )  # fmt: skip
    sampling = Sampling(float(temperature), int(top_k) or None, float(top_p), int(seed))
    return Settings(checkpoints, sampling, int(max_tokens), system.strip())


def show_empty_state(runs: Path) -> None:
    """For those who have not trained anything yet."""
    st.header("Nothing to talk to yet")
    st.write("Train a small model and teach it to chat. On a laptop this takes a few minutes; type in a terminal:")
    st.code("make train", language="bash", wrap_lines=True)
    st.write("Then come back and reload this page. It shows every checkpoint in this folder:")
    st.code(str(runs), language=None, wrap_lines=True)


def show_broken(broken: Sequence[Checkpoint]) -> None:
    """Checkpoints that are there but cannot be opened, each with the reason."""
    if broken:
        count = f"{len(broken)} checkpoints" if len(broken) > 1 else "1 checkpoint"
        with st.expander(f"{count} cannot be opened", icon=":material/warning:"):
            for each in broken:
                st.html(text_view.problem(each.problem))


def _take_usual_temperature(checkpoint: Checkpoint) -> None:
    chat = checkpoint.kind == "chat"
    st.session_state["chat_temperature"] = CHAT_TEMPERATURE if chat else BASE_TEMPERATURE
