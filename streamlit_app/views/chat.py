"""Chat: talk to a checkpoint, or to two side by side, and look at what they say token by token."""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from streamlit_app import text_view
from streamlit_app.answers import segments
from streamlit_app.chat_controls import choose_checkpoints, choose_settings, show_broken, show_empty_state
from streamlit_app.chat_session import ChatSession, Settings, chat_server, chat_session
from streamlit_app.checkpoints import find_checkpoints
from streamlit_app.conversations import Exchange, Spoken, transcript_json, transcript_text
from streamlit_app.runs_folder import runs_folder
from streamlit_app.token_view import legend_html, summary, token_html
from vnc.errors import UserError

PAINT_SECONDS = 0.05  # between two pictures of an answer on its way
CLICK_SECONDS = 0.25  # after which a click on Stop is noticed at the latest

ENDS = {
    "length": "cut at the longest answer",
    "context": "cut: the model's context is full",
    "stopped": "stopped",
}


def show_page() -> None:
    st.html(text_view.STYLE)
    runs = runs_folder()
    found = find_checkpoints(runs)
    usable = [each for each in found if not each.problem]
    broken = [each for each in found if each.problem]
    if not usable:
        show_empty_state(runs)
        show_broken(broken)
        return
    session, server = chat_session(), chat_server()
    checkpoints = choose_checkpoints(usable)
    with st.sidebar:
        settings = choose_settings(checkpoints)
        st.button("New chat", icon=":material/add:", on_click=session.start_anew, args=(server,), width="stretch")
        transcripts = st.container()
        show_broken(broken)
    if question := st.chat_input(_invitation(settings), key="chat_question"):
        _opening(settings, lambda: session.ask(server, runs, settings, question))
    elif st.session_state.pop("chat_again", False):
        again = st.session_state.pop("chat_edited", None) or session.exchanges[-1].question
        _opening(settings, lambda: session.ask_again(server, runs, settings, again))
    if not session.exchanges:
        st.html(text_view.note(_introduction(settings)))
    for exchange in session.exchanges[:-1]:
        _show_exchange(session, exchange, last=False)
    if session.exchanges:
        _show_exchange(session, session.exchanges[-1], last=True)
    if session.problem:
        st.html(text_view.problem(session.problem))
    with transcripts:
        _offer_transcripts(session)


def _invitation(settings: Settings) -> str:
    return "Your message" if settings.checkpoints[0].kind == "chat" else "A beginning, for the model to continue"


def _introduction(settings: Settings) -> str:
    each = [
        f"{checkpoint.title} "
        + ("answers your messages." if checkpoint.kind == "chat" else "is a base model: it continues your text.")
        for checkpoint in settings.checkpoints
    ]
    return " ".join(each)


def _opening(settings: Settings, ask: Callable[[], None]) -> None:
    """Asks; where a model must be read from the disk first, the page says so."""
    with st.spinner("Opening the model ..." if len(settings.checkpoints) == 1 else "Opening the models ..."):
        ask()


def _show_exchange(session: ChatSession, exchange: Exchange, last: bool) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        st.html(text_view.plain(exchange.question))
    with st.chat_message("assistant", avatar=":material/smart_toy:"):
        columns = st.columns(len(exchange.spoken)) if len(exchange.spoken) > 1 else [st.container()]
        places = []
        for column, spoken in zip(columns, exchange.spoken, strict=True):
            if len(columns) > 1:
                column.html(text_view.note(spoken.label))
            places.append((column.empty(), column.empty()))
        buttons = st.empty()
        if exchange.going_on:
            buttons.button(
                "Stop", key=f"chat_stop_{exchange.number}", icon=":material/stop_circle:", on_click=exchange.stop
            )
            _watch(exchange, places)
            buttons.empty()
        shown = bool(st.session_state.get(f"chat_tokens_{exchange.number}"))
        for (text, below), spoken in zip(places, exchange.spoken, strict=True):
            _show_answer(session, spoken, text, below, as_tokens=shown)
        if last and session.editing:
            with buttons.container():
                _show_editor(session, exchange)
        else:
            with buttons.container(horizontal=True, vertical_alignment="center"):
                _show_buttons(session, exchange, last)


def _watch(exchange: Exchange, places: list[tuple[DeltaGenerator, DeltaGenerator]]) -> None:
    """Paints the answers as they come, until all have ended. A click restarts the page's script here or there; it
    comes back to this place, and the answers have gone on meanwhile."""
    seen = [-1] * len(exchange.spoken)
    painted = 0.0
    while True:
        going_on = exchange.going_on
        # A click is noticed where the script paints: so it paints now and then although there is no news.
        due = time.monotonic() - painted > CLICK_SECONDS
        for place, spoken in enumerate(exchange.spoken):
            events = spoken.answer.events
            if len(events) != seen[place] or due:
                seen[place], painted = len(events), time.monotonic()
                places[place][0].html(text_view.message(segments(events), going_on=spoken.answer.finish is None))
        if not going_on:
            return
        for place, spoken in enumerate(exchange.spoken):
            spoken.answer.wait(seen[place], PAINT_SECONDS)
        time.sleep(PAINT_SECONDS)


def _show_answer(
    session: ChatSession, spoken: Spoken, text: DeltaGenerator, below: DeltaGenerator, as_tokens: bool
) -> None:
    answer = spoken.answer
    if answer.problem:
        text.html(text_view.problem(answer.problem))
        return
    if as_tokens and answer.tokens:
        with text.container():
            try:
                with st.spinner("Looking at each token ..."):
                    scores = session.scores(chat_server(), runs_folder(), spoken)
            except UserError as error:
                st.html(text_view.problem(str(error)))
            else:
                st.html(token_html(scores))
                st.html(legend_html())
                st.html(text_view.note(summary(scores)))
                return
    else:
        text.html(text_view.message(segments(answer.events)))
    below.html(text_view.note(_figures(spoken)))


def _figures(spoken: Spoken) -> str:
    """One line about how an answer came to be."""
    answer = spoken.answer
    parts = [f"{len(answer.tokens):,} tokens"]
    if answer.tokens_per_second is not None:
        parts.append(f"{answer.tokens_per_second:,.0f} tokens/s")
    if answer.first_token_seconds is not None:
        parts.append(f"first after {answer.first_token_seconds:.2f} s")
    parts.append(f"temperature {spoken.temperature:g}" + (f", seed {spoken.seed}" if spoken.temperature else ""))
    if answer.finish in ENDS:
        parts.append(ENDS[answer.finish])
    if answer.prompt.left_out:
        parts.append(f"the oldest {answer.prompt.left_out:,} tokens did not fit and were left out")
    return " · ".join(parts)


def _show_buttons(session: ChatSession, exchange: Exchange, last: bool) -> None:
    if any(each.answer.tokens for each in exchange.spoken):
        st.toggle("Tokens", key=f"chat_tokens_{exchange.number}", persist_state="session",
                  help="Shade each token by how much it surprised the model.")  # fmt: skip
    if not last:
        for _ in range(2):  # in place of the buttons, which would stay, greyed, until the next answer has ended
            st.empty()
        return
    st.button(
        "Regenerate", key=f"chat_regenerate_{exchange.number}", icon=":material/refresh:", type="tertiary",
        on_click=lambda: st.session_state.update(chat_again=True),
        help="Ask again with the next seed. At temperature 0 the words stay the same.",
    )  # fmt: skip
    st.button(
        "Edit", key=f"chat_edit_{exchange.number}", icon=":material/edit:", type="tertiary",
        on_click=lambda: setattr(session, "editing", True), help="Change your message and ask again.",
    )  # fmt: skip


def _show_editor(session: ChatSession, exchange: Exchange) -> None:
    key = f"chat_edit_text_{exchange.number}"
    text = st.text_area("Your message", exchange.question, key=key, label_visibility="collapsed")
    with st.container(horizontal=True):
        st.button(
            "Send", key=f"chat_send_{exchange.number}", type="primary", disabled=not text.strip(),
            on_click=lambda: st.session_state.update(chat_again=True, chat_edited=st.session_state[key]),
        )  # fmt: skip
        st.button("Cancel", key=f"chat_cancel_{exchange.number}", on_click=lambda: setattr(session, "editing", False))


def _offer_transcripts(session: ChatSession) -> None:
    if session.exchanges:
        st.download_button(
            "Transcript, JSON", transcript_json(session.exchanges), "chat.jsonl", "application/jsonl",
            on_click="ignore", icon=":material/download:", width="stretch",
            help="One conversation a line: what the json task of a mixture reads.",
        )  # fmt: skip
        st.download_button(
            "Transcript, text", transcript_text(session.exchanges), "chat.txt", "text/plain",
            on_click="ignore", icon=":material/download:", width="stretch",
        )  # fmt: skip


show_page()
