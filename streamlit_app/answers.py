"""An answer on its way: written by the thread that runs the model, watched by the page of one browser session.

It outlives the runs of the page's script, which Streamlit restarts at every click; so a click elsewhere does not break
an answer off, and Stop keeps what was said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Literal

from streamlit_app.prompts import Prompt
from vnc.conversation import Segment
from vnc.engine import Event
from vnc.engine import Finish as EngineFinish

UNWATCHED_SECONDS = 30.0  # after which an answer that no page looks at is broken off: its tab was closed

Finish = EngineFinish | Literal["stopped", "failed"]


class Answer:
    """What a model says to one prompt. Its methods may be called from any thread."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._finish: Finish | None = None
        self._problem = ""
        self._asked = self._watched = time.monotonic()
        self._first: float | None = None
        self._latest = self._asked

    # For the page.

    @property
    def events(self) -> list[Event]:
        """What was said so far."""
        with self._changed:
            return list(self._events)

    @property
    def finish(self) -> Finish | None:
        """Why it ended; None while it goes on. stopped: by the user, or because nobody looked on; failed: see
        `problem`."""
        with self._changed:
            return self._finish

    @property
    def problem(self) -> str:
        """What went wrong, as a line for the user."""
        with self._changed:
            return self._problem

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids of what was said, calculator calls and results included."""
        return tuple(event.token for event in self.events if event.token is not None)

    @property
    def first_token_seconds(self) -> float | None:
        """From the question to the first token, waiting in the queue included."""
        with self._changed:
            return None if self._first is None else self._first - self._asked

    @property
    def tokens_per_second(self) -> float | None:
        """From the first token to the latest, as the user sees them come; None for fewer than two."""
        with self._changed:
            said = sum(event.token is not None for event in self._events)
            seconds = self._latest - (self._first or self._latest)
        return (said - 1) / seconds if said > 1 and seconds > 0 else None

    def wait(self, seen: int, timeout: float) -> bool:
        """Waits until there are more than `seen` events, or it has ended, or time is up; whether there is news. Tells
        the model that somebody is looking on."""
        with self._changed:
            self._watched = time.monotonic()
            return self._changed.wait_for(lambda: len(self._events) > seen or self._finish is not None, timeout)

    def stop(self) -> None:
        """Ends it at once and keeps what was said. Does nothing to one that has ended."""
        self._end("stopped")

    # For the model's thread.

    def add(self, event: Event) -> None:
        """Takes in what the model says, unless the answer has ended."""
        with self._changed:
            if self._finish is not None:
                return
            self._events.append(event)
            self._latest = time.monotonic()
            if self._first is None:
                self._first = self._latest
            self._finish = event.finish
            self._changed.notify_all()

    def fail(self, problem: str) -> None:
        """Ends it with a line about what went wrong."""
        self._end("failed", problem)

    def unwanted(self) -> bool:
        """Whether it has ended, or nobody has looked on for a while."""
        with self._changed:
            return self._finish is not None or time.monotonic() - self._watched > UNWATCHED_SECONDS

    def _end(self, finish: Finish, problem: str = "") -> None:
        with self._changed:
            if self._finish is None:
                self._finish, self._problem = finish, problem
                self._changed.notify_all()


def segments(events: Sequence[Event]) -> tuple[Segment, ...]:
    """What was said as stretches of text, calculator calls and their results.

    A result that follows no call (a model can say the marks of one by itself) is text, as it is shown.
    """
    pieces: list[Segment] = []
    for event in events:
        if not event.text:
            continue
        before = pieces[-1].kind if pieces else "text"
        kind = "text" if event.kind == "output" and before == "text" else event.kind
        if pieces and kind == before:
            pieces[-1] = Segment(kind, pieces[-1].text + event.text)
        else:
            pieces.append(Segment(kind, event.text))
    return tuple(pieces)
