"""Your own conversations: a JSON Lines (or Parquet) file with one conversation in each line."""

from __future__ import annotations

from datamodules.in_parallel import in_parallel
from datamodules.tasks.table import Table
from vnc.conversation import Conversation
from vnc.errors import UserError

COLUMNS = ("messages",)
CHECKED = 1_000  # records between two looks at the progress


class CustomJSON:
    """Records with `messages`, or lines that are such a list. All of them are checked when the file is opened, so that
    a mistake in the last line does not end a run hours after its start. Raises UserError that names file and line."""

    def __init__(self, table: Table) -> None:
        self.name = f"json {table.path.stem}"
        self._table = table
        blocks = [range(first, min(first + CHECKED, len(table))) for first in range(0, len(table), CHECKED)]
        in_parallel(f"checking {table.path.name}, thousands", self._check, blocks)

    def __len__(self) -> int:
        return len(self._table)

    def conversation(self, index: int) -> Conversation:
        record = self._table[index]
        if "messages" not in record.values:
            raise record.wrong('no "messages" in it; a line is {"messages": [...]} or the list alone')
        try:
            return Conversation.from_dicts(record.values["messages"])
        except UserError as error:
            raise record.wrong(error) from error

    def _check(self, block: range) -> None:
        for index in block:
            self.conversation(index)
