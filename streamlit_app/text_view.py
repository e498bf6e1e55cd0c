"""Text from models and users on a page: always as text, never as HTML or Markdown.

Streamlit's usual elements read Markdown, so this text goes through `st.html`, every character of it escaped: the marks
around it are ours, what is between them is shown as it is, with its line breaks. Control characters become U+FFFD, and
each text is isolated from what surrounds it, so that none can reverse the direction of the page.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from vnc.chat import CONTROLS
from vnc.conversation import BRACKETS, Kind, Segment

STYLE = """<style>
.vnc-text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; }
.vnc-tool { opacity: .6; font-family: ui-monospace, monospace; font-size: .92em; }
.vnc-caret { animation: vnc-blink 1s steps(2) infinite; opacity: .6; }
@keyframes vnc-blink { 50% { opacity: 0; } }
.vnc-note { opacity: .7; font-size: .85rem; overflow-wrap: anywhere; }
.vnc-problem { border-left: 3px solid #d97706; padding: .35rem .75rem; background: rgba(217, 119, 6, .12);
  overflow-wrap: anywhere; white-space: pre-wrap; border-radius: 3px; }
.vnc-tokens { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2.1; position: relative; }
.vnc-token { border-radius: 3px; cursor: help; outline-offset: 1px;
  box-shadow: inset 0 -1px 0 rgba(128, 128, 128, .45); }
.vnc-token:focus { outline: 2px solid #2563eb; }
.vnc-token .vnc-end { opacity: .45; }
.vnc-choices { display: none; position: absolute; left: 0; z-index: 9; margin-top: 1.6em; padding: .5rem .75rem;
  max-width: 100%; box-sizing: border-box; font-size: .85rem; line-height: 1.5; white-space: normal; cursor: auto;
  border: 1px solid rgba(128, 128, 128, .5); border-radius: 6px; background: Canvas; color: CanvasText; }
.vnc-token:hover > .vnc-choices, .vnc-token:focus > .vnc-choices { display: block; }
.vnc-token:focus > .vnc-choices { z-index: 10; }
.vnc-choice { display: grid; grid-template-columns: minmax(4rem, auto) 4.2rem 6rem; gap: .6rem; align-items: center; }
.vnc-choice code { white-space: pre-wrap; }
.vnc-choice .vnc-bar { height: .55rem; border-radius: 2px; background: #2563eb; }
.vnc-choice.vnc-came { font-weight: 600; }
.vnc-legend { display: inline-block; width: 9rem; height: .7rem; border-radius: 3px; vertical-align: middle;
  background: linear-gradient(to right, rgba(234, 88, 12, 0), rgba(234, 88, 12, .65)); margin: 0 .4rem;
  border: 1px solid rgba(128, 128, 128, .4); }
</style>"""


def escaped(text: str) -> str:
    """The text for the inside of an HTML element or of a quoted attribute."""
    return html.escape("".join("\N{REPLACEMENT CHARACTER}" if each in CONTROLS else each for each in text))


def message(pieces: Sequence[Segment], going_on: bool = False) -> str:
    """HTML of an answer: calculator calls as [12*7=84], dimmed. `going_on` adds a caret."""
    parts: list[str] = []
    kind: Kind = "text"
    for piece in (*pieces, Segment("text", "")):
        mark = BRACKETS[kind, piece.kind] if piece.kind != kind else ""
        parts.append(_tool(mark) if mark else "")
        parts.append(escaped(piece.text) if piece.kind == "text" else _tool(piece.text))
        kind = piece.kind
    caret = '<span class="vnc-caret">▍</span>' if going_on else ""
    return f'<div class="vnc-text" dir="auto">{"".join(parts)}{caret}</div>'


def plain(text: str) -> str:
    """HTML of a text without calls."""
    return message((Segment("text", text),))


def note(text: str) -> str:
    """HTML of a small, dimmed line."""
    return f'<div class="vnc-note">{escaped(text)}</div>'


def problem(text: str) -> str:
    """HTML of a line about what went wrong."""
    return f'<div class="vnc-problem" role="alert">{escaped(text)}</div>'


def _tool(text: str) -> str:
    return f'<span class="vnc-tool">{escaped(text)}</span>'
