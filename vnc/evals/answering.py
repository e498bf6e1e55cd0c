"""What a benchmark of free answers asks of a model: a list of conversations in, the assistant's next turns out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from vnc.conversation import Conversation, Message, Role, Segment
from vnc.errors import UserError
from vnc.evals.prompts import scored_rows

Answer = Callable[[Sequence[Conversation]], list[str]]
"""Writes the assistant's next turn of each conversation."""

Item = TypeVar("Item")


def conversation(*texts: str) -> Conversation:
    """User and assistant by turns. A turn may be empty: a model can answer nothing."""
    roles: tuple[Role, Role] = ("user", "assistant")
    segments = [(Segment("text", text),) if text else () for text in texts]
    return Conversation(tuple(Message(roles[place % 2], each) for place, each in enumerate(segments)))


def drawn(items: Sequence[Item], max_examples: int | None) -> list[Item]:
    """The rows that are scored, at most `max_examples` of them: those that tasks of other kinds would score (see
    `scored_rows`), in the order of the file."""
    if max_examples is not None and max_examples < 1:
        raise UserError(f"max_examples={max_examples}: must be at least 1")
    return [items[row] for row in sorted(scored_rows(len(items), max_examples))]
