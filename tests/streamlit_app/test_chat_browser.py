"""The chat in a real browser, end to end: what a person does, with small models that have learnt a few answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from datamodules.tasks.custom_json import COLUMNS, CustomJSON
from datamodules.tasks.table import open_table
from tests.streamlit_app.browser import Browser, app, needs_chromium, until
from tests.streamlit_app.parrot import HOSTILE

pytestmark = [needs_chromium, pytest.mark.slow]
INPUT = "[data-testid=stChatInput] textarea"
MESSAGE_BUTTON = "[data-testid=stChatMessage] button"


@pytest.fixture(scope="module")
def address(parrots: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with app(parrots, log) as address:
        yield address
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests of this file: each visit of the page is a session of its own."""
    window = Browser(tmp_path_factory.mktemp("profile"))
    yield window
    window.close()


@pytest.fixture
def browse(address: str, chromium: Browser) -> Iterator[Callable[..., Browser]]:
    """Opens the chat page."""
    driver = chromium.driver
    first = driver.current_window_handle

    def visit(**screen: object) -> Browser:
        chromium.look(**screen)  # type: ignore[arg-type]
        chromium.go(address)
        chromium.find(INPUT)
        return chromium

    yield visit
    for handle in driver.window_handles:
        if handle != first:
            driver.switch_to.window(handle)
            driver.close()
    driver.switch_to.window(first)
    chromium.go("about:blank")


def tabs(window: Browser, address: str, count: int) -> list[str]:
    """Handles of so many tabs on the page: the one that is open, and new ones, which load at the same time."""
    window.script(f"for (let i = 1; i < {count}; i++) window.open({address!r})")
    until(lambda: len(window.driver.window_handles) == count)
    handle = window.driver.current_window_handle
    return [handle, *(each for each in window.driver.window_handles if each != handle)]


def ask(window: Browser, question: str) -> None:
    window.type(INPUT, question)


def shown(window: Browser) -> list[str]:
    return window.texts(".vnc-text")


def answered(window: Browser, count: int) -> list[str]:
    """The texts on the page once there are so many, and the answer has ended."""

    def ready() -> list[str]:
        texts = shown(window)
        ended = any("Regenerate" in label for label in window.texts(MESSAGE_BUTTON))
        return texts if len(texts) == count and ended and not texts[-1].endswith("▍") else []

    return until(ready)


def set_longest(window: Browser, tokens: int) -> None:
    window.type("input[aria-label^=Longest]", str(tokens))
    until(lambda: window.texts("[data-testid=stStatusWidget]") == [])


def test_type_stream_stop_and_go_on(browse: Callable[..., Browser]) -> None:
    window = browse()
    set_longest(window, 900)
    ask(window, "Sing.")
    lengths: list[int] = []

    def grows() -> bool:
        lengths.extend(len(text) for text in shown(window)[1:2])
        return len({*lengths}) >= 3

    until(grows)
    window.click(MESSAGE_BUTTON, "Stop")
    texts = answered(window, 2)
    assert texts[1].startswith("la la") and len(texts[1]) < 2000
    assert "stopped" in window.texts(".vnc-note")[-1]
    time.sleep(0.5)
    assert shown(window) == texts
    window.click("[data-testid=stSidebar] button", "New chat")
    until(lambda: shown(window) == [])
    ask(window, "What is 12*7?")
    assert answered(window, 2) == ["What is 12*7?", "It is [12*7=84]84."]
    assert window.texts(".vnc-tool") == ["[", "12*7", "=", "84", "]"]


def test_stop_in_two_tabs_ends_each_ones_own_answer(browse: Callable[..., Browser], address: str) -> None:
    window = browse()
    first, second = tabs(window, address, 2)
    for handle in (first, second):
        window.driver.switch_to.window(handle)
        window.find(INPUT)
        set_longest(window, 900)
        ask(window, "Sing.")
        until(lambda: "la la" in "".join(shown(window)[1:2]))
    window.driver.switch_to.window(first)
    window.click(MESSAGE_BUTTON, "Stop")
    kept = answered(window, 2)
    assert "stopped" in window.texts(".vnc-note")[-1]
    window.driver.switch_to.window(second)
    length = len(shown(window)[1])
    until(lambda: len(shown(window)[1]) > length + 20)  # the other tab's click has not stopped it
    window.click(MESSAGE_BUTTON, "Stop")
    assert len(answered(window, 2)[1]) < 2000 and "stopped" in window.texts(".vnc-note")[-1]
    window.driver.switch_to.window(first)
    assert shown(window) == kept


def test_hostile_text_stays_text(browse: Callable[..., Browser]) -> None:
    window = browse()
    ask(window, "Say it.")
    assert answered(window, 2)[1] == HOSTILE
    assert window.script("return document.title") == "vnc"
    assert window.script("return document.querySelectorAll('.vnc-text b, .vnc-text script, .vnc-text a').length") == 0
    window.click("input[aria-label=Tokens]")
    until(lambda: window.texts(".vnc-token"))
    assert "".join(window.script(
        "return [...document.querySelectorAll('.vnc-token')].map(e => e.firstChild.textContent)"
    )).startswith("<b>bold</b><script>")  # fmt: skip
    assert window.script("return document.querySelectorAll('.vnc-tokens b, .vnc-tokens script').length") == 0


def test_two_checkpoints_side_by_side_and_the_transcript(browse: Callable[..., Browser]) -> None:
    window = browse()
    window.click("input[aria-label^=Compare]")
    until(lambda: len(window.texts("[data-testid=stSelectbox]")) == 2)
    ask(window, "Who are you?")
    assert answered(window, 3) == ["Who are you?", "A parrot.", "A cuckoo."]
    window.click("[data-testid=stDownloadButton] button", "JSON")
    file = until(lambda: next(window.downloads.glob("*.jsonl"), None))
    task = CustomJSON(open_table(file, COLUMNS))
    assert [task.conversation(number).to_dicts()[1]["content"] for number in range(len(task))] == [
        "A parrot.", "A cuckoo.",
    ]  # fmt: skip


def test_eight_windows_at_once_each_get_their_own_answer(browse: Callable[..., Browser], address: str) -> None:
    """Tabs of one browser: each is a session of its own."""
    window = browse()
    handles = tabs(window, address, 8)
    questions = ["Say it.", "What is 12*7?", "Who are you?", "Sing."] * 2
    expected = {"Say it.": HOSTILE, "What is 12*7?": "It is [12*7=84]84.", "Who are you?": "A parrot."}
    for handle, question in zip(handles, questions, strict=True):
        window.driver.switch_to.window(handle)
        ask(window, question)
    for handle, question in zip(handles, questions, strict=True):
        window.driver.switch_to.window(handle)
        texts = answered(window, 2)
        assert texts[0] == question
        assert texts[1] == expected[question] if question in expected else texts[1].startswith("la la")


def test_regenerate_and_edit(browse: Callable[..., Browser]) -> None:
    window = browse()
    ask(window, "Who am I?")
    answered(window, 2)
    window.click(MESSAGE_BUTTON, "Edit")
    window.type("[data-testid=stChatMessage] textarea", "What is 12*7?", end=Keys.TAB)
    window.click(MESSAGE_BUTTON, "Send")
    until(lambda: shown(window)[:1] == ["What is 12*7?"])
    assert answered(window, 2)[1] == "It is [12*7=84]84."
    window.click(MESSAGE_BUTTON, "Regenerate")
    time.sleep(0.3)
    assert answered(window, 2)[1] == "It is [12*7=84]84."  # at temperature 0 the same


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width, height", [(1280, 900), (390, 844)])
def test_it_fits_and_follows_the_system_colours(
    browse: Callable[..., Browser], width: int, height: int, dark: bool
) -> None:
    window = browse(width=width, height=height, dark=dark)
    assert not window.overflows()
    ask(window, "Say it.")
    answered(window, 2)
    window.click("input[aria-label=Tokens]")
    until(lambda: window.texts(".vnc-token"))
    assert not window.overflows()
    colour = window.script("return getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    brightness = sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(",")[:3])) / 3
    assert (brightness < 100) is dark
