"""What the chat page keeps for a browser session between two runs of its script, and what its buttons do.

The server of answers is one for the whole process; all the rest is in the session's own state.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

import streamlit as st

from streamlit_app.chat_server import ChatServer, Question
from streamlit_app.checkpoints import Checkpoint
from streamlit_app.conversations import Exchange, Spoken, turns
from streamlit_app.token_scores import TokenScore
from streamlit_app.token_view import ALTERNATIVES
from vnc.errors import UserError
from vnc.sampling import Sampling

SCORING_SECONDS = 120.0


@st.cache_resource
def chat_server() -> ChatServer:
    """The one server of this process."""
    return ChatServer()


@dataclass(frozen=True)
class Settings:
    """What the page's controls say."""

    checkpoints: tuple[Checkpoint, ...]
    """One, or left and right."""
    sampling: Sampling
    max_tokens: int
    system: str


@dataclass
class ChatSession:
    """The exchanges of one browser session."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    exchanges: list[Exchange] = field(default_factory=list)
    asked: int = 0
    """Questions since the chat began, those asked again included."""
    problem: str = ""
    """What the latest click has to tell."""
    editing: bool = False

    def ask(self, server: ChatServer, runs: Path, settings: Settings, question: str) -> None:
        """Puts a question to each model. What goes wrong, for one model or all, is told on the page."""
        self.stop()
        self.problem, self.editing = "", False
        # As in the terminal: each answer draws with a seed of its own, the first with the user's.
        sampling = replace(settings.sampling, seed=(settings.sampling.seed + self.asked) % 2**63)
        spoken = []
        try:
            for place, checkpoint in enumerate(settings.checkpoints):
                model = server.open(runs, checkpoint.name)
                tokenizer = model.loaded.tokenizer
                asked = Question(
                    session=self.id,
                    place=place,
                    text=question,
                    turns=turns(self.exchanges, place, tokenizer),
                    system=settings.system,
                    sampling=sampling,
                    max_tokens=settings.max_tokens,
                )
                answer = server.ask(model, asked)
                spoken.append(
                    Spoken(
                        checkpoint=checkpoint.name,
                        label=checkpoint.label,
                        chat=model.loaded.chat,
                        fingerprint=tokenizer.fingerprint,
                        seed=sampling.seed,
                        temperature=sampling.temperature,
                        answer=answer,
                    )
                )
        except UserError as error:
            self.problem = str(error)
            for each in spoken:
                each.answer.stop()
            return
        self.asked += 1
        self.exchanges.append(Exchange(question, settings.system, spoken))

    def ask_again(self, server: ChatServer, runs: Path, settings: Settings, question: str) -> None:
        """Puts `question` in place of the last one; that stays where the new one cannot be asked."""
        self.stop()
        last = self.exchanges.pop()
        before = len(self.exchanges)
        self.ask(server, runs, settings, question)
        if len(self.exchanges) == before:
            self.exchanges.append(last)

    def stop(self) -> None:
        """Ends the answers that are under way, and keeps what they said."""
        for exchange in self.exchanges:
            exchange.stop()

    def start_anew(self, server: ChatServer) -> None:
        """Forgets everything that was said."""
        self.stop()
        server.forget(self.id)
        self.exchanges, self.asked, self.problem, self.editing = [], 0, "", False

    def scores(self, server: ChatServer, runs: Path, spoken: Spoken) -> list[TokenScore]:
        """The token view's numbers, worked out once. Raises UserError where that is not possible (any more)."""
        if spoken.scores is None:
            model = server.open(runs, spoken.checkpoint)
            if model.loaded.tokenizer.fingerprint != spoken.fingerprint:
                raise UserError(f"{spoken.checkpoint} holds another model by now; ask again for its token view")
            future = server.score(model, self.id, spoken.answer.prompt.ids, spoken.answer.tokens, ALTERNATIVES)
            try:
                spoken.scores = future.result(SCORING_SECONDS)
            except TimeoutError:
                raise UserError("the token view takes too long while others ask; try again in a moment") from None
        return spoken.scores


def chat_session() -> ChatSession:
    """This browser session's."""
    if "chat" not in st.session_state:
        st.session_state["chat"] = ChatSession()
    session: ChatSession = st.session_state["chat"]
    return session
