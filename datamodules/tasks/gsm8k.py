"""GSM8K: sums told as stories, solved step by step (Cobbe et al. 2021, arXiv 2110.14168); 7,473 to train on.

The solutions carry a note at each computation, "48/2 = <<48/2=24>>24 clips", made to teach the use of a calculator. A
note becomes a call of ours: the tool segment "48/2", the output "24", and the text goes on with what was written.
"""

from __future__ import annotations

import re

from datamodules.tasks.question import exchange
from datamodules.tasks.table import Table
from vnc.calculator import calculate
from vnc.conversation import Conversation, Segment

COLUMNS = ("question", "answer")

_note = re.compile(r"<<([^<>]*)>>")


class Gsm8k:
    """Records with `question` and `answer`; the answer's last line, "#### 72", stays as it is."""

    name = "gsm8k"

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def conversation(self, index: int) -> Conversation:
        record = self._table[index]
        answer = solution(record.text("answer"))
        question = record.text("question")
        if not question or not answer:
            raise record.wrong("question or answer is empty")
        return exchange(question, *answer)


def solution(answer: str) -> tuple[Segment, ...]:
    """The answer with its notes as calls of the calculator.

    The output is what the calculator returns, in its own spelling ("9", where the note has "9.00"), since that is what
    the model will read when it calls. A note becomes no call, and only the text around it stays, where the calculator
    cannot work it out or finds another number than the text goes on with: one that differs by more than rounding.
    """
    segments, text = list[Segment](), ""
    for number, piece in enumerate(_note.split(answer)):
        if number % 2 == 0:
            text += piece
            continue
        expression, _, written = piece.rpartition("=")
        result = calculate(expression)
        if _agrees(result, written):
            if text:
                segments.append(Segment("text", text))
            segments += [Segment("tool", expression), Segment("output", result)]
            text = ""
    return (*segments, Segment("text", text)) if text else tuple(segments)


def _agrees(result: str, written: str) -> bool:
    """Is `written` the result, or the result rounded or cut to the decimals that `written` has?"""
    try:
        found, meant = float(result), float(calculate(written))  # calculate reads "1,250" and "3/4" too
    except ValueError:  # "error: ..."
        return False
    return abs(found - meant) < 10.0 ** -len(written.strip().partition(".")[2])
