"""Text on the page is text: HTML of hostile strings, read back by an HTML parser."""

from __future__ import annotations

import pytest

from streamlit_app import text_view
from tests.streamlit_app.parrot import ANSWERS, HOSTILE
from tests.streamlit_app.test_token_scores import Reading
from vnc.conversation import Segment

STRINGS = [
    HOSTILE,
    "</div></span><img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp;amp; &#60;script&#62;",
    "<!-- comment --><![CDATA[x]]><?php ?>",
    "'\" onmouseover='x' \"",
    "| a | b |\n|---|---|\n\n    code\n```\n$$x$$ :material/chat: ~~x~~\n1. x",
    "  two  spaces\n\n\nlines\ttabs ",
    "<style>*{display:none}</style><link rel=stylesheet href=//x>",
]


@pytest.mark.parametrize("text", STRINGS)
@pytest.mark.parametrize("view", [text_view.plain, text_view.note, text_view.problem])
def test_every_character_is_shown_and_none_is_markup(view, text: str) -> None:
    read = Reading(view(text))
    assert read.words == text
    assert [tag for tag, _ in read.tags] == ["div"]
    assert all(set(attributes) <= {"class", "dir", "role"} for _, attributes in read.tags)


@pytest.mark.parametrize("text", STRINGS)
def test_inside_calculator_calls_too(text: str) -> None:
    read = Reading(text_view.message((Segment("tool", text), Segment("output", text))))
    assert read.words == f"[{text}={text}]" and {tag for tag, _ in read.tags} == {"div", "span"}


def test_calculator_calls_are_dimmed() -> None:
    html = text_view.message(ANSWERS["What is 12*7?"])
    assert Reading(html).words == "It is [12*7=84]84."
    dimmed = "".join(part.partition("</span>")[0] for part in html.split('<span class="vnc-tool">')[1:])
    assert dimmed == "[12*7=84]"


def test_an_answer_on_its_way() -> None:
    assert Reading(text_view.message((), going_on=True)).words == "▍"
    assert Reading(text_view.message((Segment("tool", "1+"),), going_on=True)).words == "[1+]▍"


def test_controls_cannot_act() -> None:
    assert Reading(text_view.plain("a\x00b\x1b[2Jc\x9bd\re")).words == "a�b�[2Jc�d�e"
