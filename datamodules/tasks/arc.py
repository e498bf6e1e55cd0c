"""ARC: science questions of primary and middle school (Clark et al. 2018, arXiv 1803.05457), 2,251 easy ones to train
on and 1,119 that need more than looking up a word."""

from __future__ import annotations

from typing import Literal

from datamodules.tasks.question import answered_by_letter
from datamodules.tasks.table import Record, Table
from vnc.conversation import Conversation

COLUMNS = ("question", "choices", "letters", "answerKey")


class Arc:
    """Records with `question`, `answerKey` and either the Hub's `choices` of {text, label}, or lists `choices` and
    `letters`. Some questions label their choices 1 to 4; all of them are asked with letters, A for the first."""

    def __init__(self, level: Literal["easy", "challenge"], table: Table) -> None:
        self.name = f"arc_{level}"
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def conversation(self, index: int) -> Conversation:
        record = self._table[index]
        struct = record.values.get("choices")
        if isinstance(struct, dict):
            record = Record(
                record.values | {"choices": struct.get("text"), "letters": struct.get("label")}, record.where
            )
        choices, labels, key = record.texts("choices"), record.texts("letters"), record.text("answerKey")
        if len(labels) != len(choices) or labels.count(key) != 1:
            raise record.wrong(f"answerKey {key!r:.40} with labels {labels!r:.60} for {len(choices)} choices")
        return answered_by_letter(record, record.text("question"), choices, labels.index(key))
