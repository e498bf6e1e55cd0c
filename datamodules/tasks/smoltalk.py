"""SmolTalk: conversations on everything (Allal et al. 2025, arXiv 2502.02737), about 460,000 to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.tasks.table import Table
from vnc.conversation import Conversation
from vnc.errors import UserError

COLUMNS = ("messages",)


class SmolTalk:
    """Records with `messages`. A user cannot mend half a million rows of the Hub, so one with a message that says
    nothing is read up to there; if that leaves no answer, there is nothing to learn from it."""

    name = "smoltalk"

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def conversation(self, index: int) -> Conversation:
        record = self._table[index]
        messages = record.values.get("messages")
        if not isinstance(messages, list) or not messages:
            raise record.wrong(f"messages is {messages!r:.40}, not a list of messages")
        spoken = _before_silence(messages)
        try:
            return Conversation.from_dicts(spoken) if spoken else Conversation(())
        except UserError as error:
            raise record.wrong(error) from error


def _before_silence(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages before the first empty one."""
    spoken: list[Mapping[str, Any]] = []
    for message in messages:
        if isinstance(message, Mapping) and message.get("content") == "":
            break
        spoken.append(message)
    return spoken
