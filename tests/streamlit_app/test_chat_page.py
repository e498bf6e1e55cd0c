"""The chat page's logic, by Streamlit's AppTest with real small models."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from streamlit_app import chat_server
from streamlit_app.answers import Answer
from streamlit_app.chat_server import ChatServer, Question
from streamlit_app.model_shelf import SharedModel
from streamlit_app.runs_folder import VARIABLE
from tests.streamlit_app.parrot import HOSTILE
from tests.streamlit_app.test_token_scores import Reading

PAGE = str(Path(__file__).parents[2] / "streamlit_app" / "views" / "chat.py")
PARROT, CUCKOO, BASE = (
    "parrot/checkpoints/step_00000300",
    "cuckoo/checkpoints/step_00000020",
    "base/checkpoints/step_00000100",
)


@pytest.fixture(autouse=True)
def own_server() -> Iterator[None]:
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def page(shown_runs: Path) -> AppTest:
    return opened()


def opened() -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=60).run()
    assert not page.exception
    return page


def ask(page: AppTest, question: str) -> AppTest:
    page.chat_input(key="chat_question").set_value(question).run()
    assert not page.exception
    return page


def click(page: AppTest, label: str) -> AppTest:
    (button,) = [each for each in page.button if each.label == label]
    button.click().run()
    assert not page.exception
    return page


def shown(page: AppTest, kind: str = "vnc-text") -> list[str]:
    """The texts of the elements of this class, as a browser shows them."""
    bodies = [element.proto.body for element in page.get("html")]
    return [Reading(body).words for body in bodies if body.startswith(f'<div class="{kind}"')]


def test_nothing_trained_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "runs"))
    page = opened()
    assert [each.value for each in page.code] == ["make train", str(tmp_path.resolve() / "runs")]
    assert not page.chat_input and not (tmp_path / "runs").exists()


def test_only_broken_checkpoints(own_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in own_runs.rglob("model.json"):
        file.write_text("{")
    monkeypatch.setenv(VARIABLE, str(own_runs))
    page = opened()
    assert page.expander[0].label == "3 checkpoints cannot be opened" and len(shown(page, "vnc-problem")) == 3
    assert page.code[0].value == "make train"


def test_a_conversation(page: AppTest) -> None:
    assert shown(page, "vnc-note") == ["parrot · step 300 (last) answers your messages."]
    ask(page, "What is 12*7?")
    assert shown(page) == ["What is 12*7?", "It is [12*7=84]84."]
    (note,) = shown(page, "vnc-note")
    assert "tokens" in note and "first after" in note and "temperature 0" in note
    ask(page, "Say it.")
    assert len(shown(page)) == 4 and shown(page)[0] == "What is 12*7?"
    assert [each.name for each in page.chat_message] == ["user", "assistant"] * 2


def test_hostile_text_is_text(page: AppTest) -> None:
    ask(page, "Say it.")
    assert shown(page) == ["Say it.", HOSTILE]
    ask(page, HOSTILE)
    assert shown(page)[2] == HOSTILE
    bodies = "".join(element.proto.body for element in page.get("html"))
    assert "<script" not in bodies and "<b>" not in bodies and HOSTILE in unescape(bodies)
    assert not any(HOSTILE[:8] in each.value for each in page.markdown)


def test_regenerating_takes_the_next_seed(page: AppTest) -> None:
    page.slider(key="chat_temperature").set_value(1.5)
    page.number_input(key="chat_max_tokens").set_value(30)
    page.number_input(key="chat_seed").set_value(7)
    first = shown(ask(page, "Hello?"))[1]
    assert "seed 7" in shown(page, "vnc-note")[0]
    second = shown(click(page, "Regenerate"))[1]
    assert len(shown(page)) == 2 and second != first and "seed 8" in shown(page, "vnc-note")[0]
    click(page, "New chat")
    assert shown(page) == []
    assert shown(ask(page, "Hello?"))[1] == first


def test_editing_the_last_question(page: AppTest) -> None:
    ask(page, "Say it.")
    ask(page, "Who am I?")
    click(page, "Edit")
    page.text_area(key=[each.key for each in page.text_area if each.key.startswith("chat_edit_text")][0]).set_value(
        "What is 12*7?"
    )
    click(page, "Send")
    assert shown(page)[0] == "Say it." and shown(page)[2] == "What is 12*7?" and len(shown(page)) == 4
    click(page, "Edit")
    click(page, "Cancel")
    assert shown(page)[2] == "What is 12*7?"


def test_a_base_model_continues_at_its_own_temperature(page: AppTest) -> None:
    page.selectbox(key="chat_checkpoint_left").set_value(BASE).run()
    assert "continues your text" in shown(page, "vnc-note")[0]
    assert page.slider(key="chat_temperature").value == 0.8
    assert not [each for each in page.text_area if each.key == "chat_system"]
    ask(page, "Sing it.")
    assert "temperature 0.8, seed 0" in shown(page, "vnc-note")[0]
    page.selectbox(key="chat_checkpoint_left").set_value(PARROT).run()
    assert page.slider(key="chat_temperature").value == 0


def test_two_side_by_side(page: AppTest) -> None:
    page.toggle(key="chat_compare").set_value(True).run()
    left, right = (page.selectbox(key=f"chat_checkpoint_{side}").value for side in ("left", "right"))
    assert left != right
    page.selectbox(key="chat_checkpoint_left").set_value(PARROT)
    page.selectbox(key="chat_checkpoint_right").set_value(CUCKOO).run()
    ask(page, "Who are you?")
    assert shown(page) == ["Who are you?", "A parrot.", "A cuckoo."]
    page.slider(key="chat_temperature").set_value(1.0)
    click(page, "Regenerate")
    figures = [note for note in shown(page, "vnc-note") if "tokens" in note]
    assert len(figures) == 2 and all("temperature 1, seed 1" in note for note in figures)


def test_the_token_view(page: AppTest) -> None:
    ask(page, "What is 12*7?")
    (toggle,) = [each for each in page.toggle if each.label == "Tokens"]
    toggle.set_value(True).run()
    assert not page.exception
    (tokens,) = shown(page, "vnc-tokens")
    assert "probability" in tokens and "bits" in tokens and "<|tool_start|>" in tokens
    assert any("bits a token" in note for note in shown(page, "vnc-note"))


def test_the_system_prompt_is_read_and_written_down(page: AppTest) -> None:
    before = shown(ask(page, "Hello?"))[1]
    click(page, "New chat")
    page.text_area(key="chat_system").set_value("Sing la la la.")
    ask(page, "Hello?")
    session = page.session_state["chat"]
    assert session.exchanges[0].system == "Sing la la la."
    assert shown(page)[1] != before


def test_too_long_a_prompt_is_told_and_harms_nothing(page: AppTest) -> None:
    ask(page, "Who are you?")
    ask(page, "x" * 1_000_000)
    assert "1,000,000 characters" in shown(page, "vnc-problem")[0]
    assert shown(page) == ["Who are you?", "A parrot."]
    ask(page, "Say it.")
    assert shown(page, "vnc-problem") == [] and len(shown(page)) == 4


def test_a_long_conversation_says_what_it_left_out(page: AppTest) -> None:
    ask(page, "la " * 900)
    assert "did not fit and were left out" in shown(page, "vnc-note")[0]


def test_a_full_queue_is_told(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_server, "WAITING", 0)
    st.cache_resource.clear()
    ask(page, "Who are you?")
    assert "queue is full" in shown(page, "vnc-problem")[0] and shown(page) == []


def test_a_checkpoint_deleted_while_loaded(own_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers and their token view stay; the page turns to one that is there."""
    monkeypatch.setenv(VARIABLE, str(own_runs))
    page = opened()
    ask(page, "Who are you?")
    shutil.rmtree(own_runs / "parrot")
    (toggle,) = [each for each in page.toggle if each.label == "Tokens"]
    toggle.set_value(True).run()
    assert not page.exception and len(shown(page, "vnc-tokens")) == 1
    assert page.selectbox(key="chat_checkpoint_left").value == CUCKOO
    toggle.set_value(False).run()
    ask(page, "Who are you?")
    assert [each.spoken[0].checkpoint for each in page.session_state["chat"].exchanges] == [PARROT, CUCKOO]
    assert len(shown(page)) == 4 and not shown(page, "vnc-problem")
    shutil.rmtree(own_runs / "cuckoo")
    shutil.rmtree(own_runs / "base")
    page.run()
    assert not page.exception and page.code[0].value == "make train"


def test_sessions_see_only_their_own(shown_runs: Path) -> None:
    first, second = opened(), opened()
    ask(first, "Say it.")
    ask(second, "Who are you?")
    assert shown(first.run())[:1] == ["Say it."] and shown(second.run()) == ["Who are you?", "A parrot."]
    assert first.session_state["chat"].id != second.session_state["chat"].id


def test_transcripts_are_offered(page: AppTest) -> None:
    assert not page.get("download_button")
    ask(page, "What is 12*7?")
    assert [each.proto.label for each in page.get("download_button")] == ["Transcript, JSON", "Transcript, text"]


def test_a_stopped_answer_keeps_its_text_and_says_so(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by another thread after five tokens, while the page's script watches."""
    asking = ChatServer.ask

    def ask_and_stop(self: ChatServer, model: SharedModel, question: Question) -> Answer:
        answer = asking(self, model, question)
        threading.Thread(target=lambda: (answer.wait(5, 60), answer.stop())).start()
        return answer

    monkeypatch.setattr(ChatServer, "ask", ask_and_stop)
    page.number_input(key="chat_max_tokens").set_value(900)
    ask(page, "Sing.")
    assert shown(page)[1].startswith("la ") and "stopped" in shown(page, "vnc-note")[0]
    assert not [each for each in page.button if each.label == "Stop"]


def test_settings_outlive_a_visit_to_another_page(shown_runs: Path) -> None:
    app = AppTest.from_file(str(Path(PAGE).parents[1] / "app.py"), default_timeout=60).run()
    app.number_input(key="chat_seed").set_value(42).run()
    app.selectbox(key="chat_checkpoint_left").set_value(CUCKOO).run()
    ask(app, "Who are you?")
    app.switch_page("views/plan.py").run()
    assert not [each for each in app.number_input if each.key == "chat_seed"]
    app.switch_page("views/chat.py").run()
    assert app.number_input(key="chat_seed").value == 42
    assert app.selectbox(key="chat_checkpoint_left").value == CUCKOO and shown(app)[1] == "A cuckoo."


def test_the_page_writes_nothing(page: AppTest, shown_runs: Path) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in shown_runs.rglob("*"))
    ask(page, "Who are you?")
    assert json.dumps(before, default=str) == json.dumps(
        sorted((path, path.lstat().st_mtime_ns) for path in shown_runs.rglob("*")), default=str
    )
