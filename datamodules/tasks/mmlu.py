"""MMLU: questions of 57 school and university subjects with four choices (Hendrycks et al. 2021, arXiv 2009.03300).

Trained on is its `auxiliary_train`, 99,842 questions collected from other data sets; the tests stay tests.
"""

from __future__ import annotations

from datamodules.tasks.question import answered_by_letter
from datamodules.tasks.table import Record, Table
from vnc.conversation import Conversation

COLUMNS = ("question", "choices", "answer", "train")


class Mmlu:
    """Records with `question`, `choices` and the number of the right one, `answer`, from 0; or, as the Hub stores
    auxiliary_train, with all of these within `train`."""

    name = "mmlu"

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def conversation(self, index: int) -> Conversation:
        record = self._table[index]
        if isinstance(inner := record.values.get("train"), dict):
            record = Record(inner, record.where)
        choices, answer = record.texts("choices"), record.values.get("answer")
        if not isinstance(answer, int) or not 0 <= answer < len(choices):
            raise record.wrong(f"answer is {answer!r:.40}, not the number of one of {len(choices)} choices, from 0")
        return answered_by_letter(record, record.text("question"), choices, answer)
