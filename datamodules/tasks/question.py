"""A question with choices as a conversation: asked in the one wording of vnc/multiple_choice.py, answered by letter."""

from __future__ import annotations

from collections.abc import Sequence

from datamodules.tasks.table import Record
from vnc.conversation import Conversation, Message, Segment
from vnc.multiple_choice import letters_of, multiple_choice


def answered_by_letter(record: Record, question: str, choices: Sequence[str], answer: int) -> Conversation:
    """`answer` counts from 0. Raises UserError, naming the record, for more choices than letters."""
    try:
        letters = letters_of(len(choices))
    except ValueError as error:
        raise record.wrong(error) from error
    return exchange(multiple_choice(question, letters, choices), Segment("text", letters[answer]))


def exchange(question: str, *answer: Segment) -> Conversation:
    """One question of the user, and the assistant's answer."""
    return Conversation((Message("user", (Segment("text", question),)), Message("assistant", answer)))
