"""What a browser session has talked about: its exchanges with one model, or with two side by side; and what of it goes
into the next prompt and into the transcript."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamlit_app.answers import Answer, segments
from streamlit_app.prompts import Turn
from streamlit_app.token_scores import TokenScore
from vnc.conversation import Conversation, Message, Segment, render
from vnc.engine import transcript
from vnc.tokenizer import Tokenizer

_numbers = itertools.count()


@dataclass
class Spoken:
    """One model's answer, and with what it was made."""

    checkpoint: str
    """Its name below the runs folder."""
    label: str
    chat: bool
    fingerprint: str
    """Of the tokenizer."""
    seed: int
    temperature: float
    answer: Answer
    scores: list[TokenScore] | None = None
    """How probable each token was, once that has been asked for."""


@dataclass
class Exchange:
    """A question and what each model said to it: one, or left and right."""

    question: str
    system: str
    spoken: list[Spoken]
    number: int = field(default_factory=lambda: next(_numbers))
    """Its own among all exchanges of this process."""

    @property
    def going_on(self) -> bool:
        return any(each.answer.finish is None for each in self.spoken)

    def stop(self) -> None:
        for each in self.spoken:
            each.answer.stop()

    def at(self, place: int) -> Spoken:
        """The answer at this place, or the nearest one where only one model was asked."""
        return self.spoken[min(place, len(self.spoken) - 1)]


def turns(exchanges: Sequence[Exchange], place: int, tokenizer: Tokenizer) -> tuple[Turn, ...]:
    """The conversation as a model at `place` remembers it: the very tokens that were said, or their text in its own
    tokens where another vocabulary said them. Without exchanges in which nothing was said."""
    remembered = []
    for exchange in exchanges:
        spoken = exchange.at(place)
        if tokens := spoken.answer.tokens:
            if spoken.fingerprint != tokenizer.fingerprint:
                tokens = _encoded(segments(spoken.answer.events), tokenizer)
            remembered.append(Turn(exchange.question, tokens))
    return tuple(remembered)


def transcript_json(exchanges: Sequence[Exchange]) -> str:
    """JSON Lines, as the `json` task of vnc's mixtures reads them: {"messages": [...]} and the checkpoint's name. One
    line for each model's conversation, or, for base models, for each text and its continuation."""
    return "".join(
        json.dumps({"messages": conversation.to_dicts(), "checkpoint": checkpoint}) + "\n"
        for checkpoint, conversation in _conversations(exchanges)
    )


def transcript_text(exchanges: Sequence[Exchange]) -> str:
    """The same to read."""
    parts = []
    for exchange in exchanges:
        parts.append(f"you: {exchange.question}\n")
        parts += [f"{each.label}: {transcript(each.answer.events)}\n" for each in exchange.spoken]
    return "\n".join(parts)


def _conversations(exchanges: Sequence[Exchange]) -> list[tuple[str, Conversation]]:
    found: list[tuple[str, Conversation]] = []
    for place in range(max((len(each.spoken) for each in exchanges), default=0)):
        said: list[tuple[Spoken, str, list[Message]]] = []
        for exchange in exchanges:
            pieces = segments(exchange.at(place).answer.events)
            if not exchange.question or not any(piece.text for piece in pieces):
                continue
            spoken = exchange.at(place)
            pair = [Message("user", (Segment("text", exchange.question),)), Message("assistant", pieces)]
            if said and spoken.chat and said[-1][0].chat and said[-1][0].checkpoint == spoken.checkpoint:
                said[-1][2].extend(pair)
            else:
                said.append((spoken, exchange.system if spoken.chat else "", pair))
        for spoken, system, messages in said:
            opening = [Message("system", (Segment("text", system),))] if system else []
            found.append((spoken.checkpoint, Conversation((*opening, *messages))))
    return found


def _encoded(pieces: Sequence[Segment], tokenizer: Tokenizer) -> tuple[int, ...]:
    """An assistant's message without its header and what closes it."""

    def ids(content: tuple[Segment, ...]) -> list[int]:
        return render(Conversation((Message("assistant", content),)), tokenizer)[0]

    empty = ids(())
    opening = empty.index(tokenizer.special("<|im_end|>"))
    return tuple(ids(tuple(pieces))[opening : opening - len(empty)])
