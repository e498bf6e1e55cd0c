"""TinyWorld's conversations (vnc/tinyworld/conversations.py): chats about an invented place, made up without files."""

from __future__ import annotations

from vnc.conversation import Conversation
from vnc.tinyworld.conversations import conversation

TRAINING_BOOK, VALIDATION_BOOK = 0, -1


class TinyWorldChat:
    """`size` conversations. Those of validation come from another book: about the same facts, in other words."""

    name = "tinyworld"

    def __init__(self, size: int, validation: bool = False) -> None:
        self._size, self._book = size, VALIDATION_BOOK if validation else TRAINING_BOOK

    def __len__(self) -> int:
        return self._size

    def conversation(self, index: int) -> Conversation:
        return conversation(index, self._book)
