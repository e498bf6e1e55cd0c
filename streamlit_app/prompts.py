"""What a model is given to read: the conversation so far, as the very tokens that were read and said.

When it grows longer than the model's context leaves room for, the oldest turns are left out whole, and of a question
that is too long by itself the newest part is kept; the system prompt stays. As in `vnc.chat`, a quarter of the context
at most is kept free for the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vnc.conversation import Conversation, Message, Segment, render, render_prompt
from vnc.engine import newest_part
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    ids: tuple[int, ...]
    left_out: int
    """Tokens of the conversation that did not fit."""


@dataclass(frozen=True)
class Turn:
    """A question that was answered."""

    question: str
    answer: tuple[int, ...]
    """Token ids, calculator calls and their results included, without what closes the turn."""


def room_for_prompt(context: int, max_tokens: int) -> int:
    """Tokens of the context that a prompt may take."""
    return context - min(max_tokens, context // 4)


def base_prompt(text: str, tokenizer: Tokenizer, room: int) -> Prompt:
    """A text for a base model to continue."""
    ids, left_out = newest_part([tokenizer.bos_id, *tokenizer.encode(text)], room)
    return Prompt(tuple(ids), left_out)


def chat_prompt(system: str, turns: Sequence[Turn], question: str, tokenizer: Tokenizer, room: int) -> Prompt:
    """A conversation up to where the assistant answers `question`. Raises UserError where the system prompt leaves no
    room for a question."""
    opening = [tokenizer.bos_id]
    if system:
        opening = render(Conversation((Message("system", (Segment("text", system),)),)), tokenizer)[0]
    frame = _asked("", tokenizer)
    ids = tokenizer.encode(question)
    cut = max(0, len(opening) + len(frame) + len(ids) - room)
    if cut >= len(ids) > 0 or len(opening) + len(frame) > room:
        raise UserError(
            f"the system prompt takes {len(opening) - 1} tokens, and the model has room for {room} with a question; "
            "shorten it"
            if system
            else f"this model has room for {room} tokens only, too few for a conversation"
        )
    place = frame.index(tokenizer.special("<|im_end|>"))
    asked = frame[:place] + ids[cut:] + frame[place:]
    closing = [tokenizer.special("<|im_end|>"), *tokenizer.encode("\n")]
    past = [[*_asked(turn.question, tokenizer), *turn.answer, *closing] for turn in turns]
    left_out = cut
    while past and len(opening) + sum(map(len, past)) + len(asked) > room:
        left_out += len(past.pop(0))
    return Prompt((*opening, *(token for turn in past for token in turn), *asked), left_out)


def _asked(question: str, tokenizer: Tokenizer) -> list[int]:
    """From the user's header to the assistant's."""
    return render_prompt(Conversation((Message("user", (Segment("text", question),)),)), tokenizer)[1:]
