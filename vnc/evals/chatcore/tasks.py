"""The tasks of ChatCORE and their rows: what is asked and what is right.

Six tasks are read from a folder, in either of two layouts, file by file:

    DIR/mmlu_test.jsonl, arc_easy_test.jsonl, ..., HumanEval.jsonl.gz    one file for each task
    DIR/mmlu/test.parquet (or .jsonl), arc_easy/test.parquet, ...        as `vnc prepare task_mixture` writes them

Spelling is made up. Reading checks everything that scoring relies on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from string import ascii_uppercase
from typing import Literal

from vnc.errors import UserError
from vnc.evals.bundle import LeftOut
from vnc.evals.chatcore.grading import final_number
from vnc.evals.chatcore.table import read_table
from vnc.evals.humaneval import Problem, read_problems
from vnc.evals.json_rows import Row
from vnc.spelling import SpellingQuestion, spelling_question

SPELLING_ROWS = 256
LETTER_TASKS = ("mmlu", "arc_easy", "arc_challenge")
NAMES = (*LETTER_TASKS, "gsm8k", "humaneval", "spelling")
FILES: dict[str, tuple[str, ...]] = {
    name: (f"{name}_test.jsonl", f"{name}/test.parquet", f"{name}/test.jsonl") for name in (*LETTER_TASKS, "gsm8k")
}
FILES["humaneval"] = ("HumanEval.jsonl.gz", "HumanEval.jsonl", "humaneval/test.parquet", "humaneval/test.jsonl")


@dataclass(frozen=True)
class LetterQuestion:
    """To be answered with the letter of a choice."""

    question: str
    choices: tuple[str, ...]
    gold: int
    """Index of the right choice."""


@dataclass(frozen=True)
class Sum:
    """To be worked out in writing, up to "#### " and a number."""

    question: str
    expected: str
    """In plain digits, as `final_number` gives it."""


@dataclass(frozen=True)
class LetterTask:
    label: str
    rows: tuple[LetterQuestion, ...]
    kind: Literal["letters"] = "letters"

    @property
    def baseline(self) -> float:
        """Accuracy of guessing."""
        return fmean(1 / len(row.choices) for row in self.rows)


@dataclass(frozen=True)
class SumTask:
    label: str
    rows: tuple[Sum, ...]
    kind: Literal["sums"] = "sums"


@dataclass(frozen=True)
class CodeTask:
    label: str
    rows: tuple[Problem, ...]
    kind: Literal["code"] = "code"


@dataclass(frozen=True)
class SpellingTask:
    label: str
    rows: tuple[SpellingQuestion, ...]
    kind: Literal["spelling"] = "spelling"


ChatTask = LetterTask | SumTask | CodeTask | SpellingTask


@dataclass(frozen=True)
class ChatTasks:
    tasks: tuple[ChatTask, ...]
    left_out: tuple[LeftOut, ...] = ()


def read_chat_tasks(folder: Path, names: Collection[str] | None = None) -> ChatTasks:
    """The tasks, all or those that `names` names, always in the order of NAMES.

    A task of which the folder has no file is left out by name; anything malformed raises UserError that names file and
    row.
    """
    for name in names or ():
        if name not in NAMES:
            raise UserError(f"tasks: chatcore has no task {name!r}; it has {', '.join(NAMES)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `vnc prepare task_mixture --out {folder}` fetches the tests")
    tasks: list[ChatTask] = []
    left_out = []
    for name in NAMES:
        if names is not None and name not in names:
            continue
        if name == "spelling":
            rows = tuple(spelling_question(index, validation=True) for index in range(SPELLING_ROWS))
            tasks.append(SpellingTask(name, rows))
            continue
        path = next((folder / file for file in FILES[name] if (folder / file).is_file()), None)
        if path is None:
            left_out.append(LeftOut(name, f"no {' or '.join(FILES[name])} in {folder}"))
        else:
            tasks.append(_read_task(name, path))
    return ChatTasks(tuple(tasks), tuple(left_out))


def _read_task(name: str, path: Path) -> ChatTask:
    if name == "humaneval":
        return CodeTask(
            name, read_problems(path) if path.suffix != ".parquet" else tuple(map(_problem, read_table(path)))
        )
    rows = read_table(path)
    if name == "gsm8k":
        return SumTask(name, tuple(_sum(row) for row in rows))
    read = _mmlu if name == "mmlu" else _arc
    return LetterTask(name, tuple(read(row) for row in rows))


def _mmlu(row: Row) -> LetterQuestion:
    gold, choices = row.values.get("answer"), _texts(row, "choices", row.values.get("choices"))
    if type(gold) is not int or not 0 <= gold < len(choices):
        raise row.fault("answer", f"a whole number from 0 to {len(choices) - 1}, the place of the right choice")
    return LetterQuestion(row.text("question"), choices, gold)


def _arc(row: Row) -> LetterQuestion:
    """Choices as the Hub has them, {text, label}, or in lists `choices` and `letters`. Some are labelled 1 to 4; all
    are asked with letters, A for the first."""
    struct = row.values.get("choices")
    if isinstance(struct, dict):
        texts, labels = struct.get("text"), _texts(row, "choices", struct.get("label"))
    else:
        texts, labels = struct, _texts(row, "letters", row.values.get("letters"))
    choices, key = _texts(row, "choices", texts), row.text("answerKey")
    if len(labels) != len(choices) or labels.count(key) != 1:
        raise row.fault("answerKey", f"one of the labels of {len(choices)} choices, {', '.join(labels)}")
    return LetterQuestion(row.text("question"), choices, labels.index(key))


def _texts(row: Row, key: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise row.fault(key, "a list of strings")
    if not 2 <= len(values) <= len(ascii_uppercase):
        raise row.fault(key, f"a list of 2 to {len(ascii_uppercase)} strings")
    return tuple(values)


def _problem(row: Row) -> Problem:
    return Problem(**{field.name: row.text(field.name) for field in dataclasses.fields(Problem)})


def _sum(row: Row) -> Sum:
    expected = final_number(row.text("answer"))
    if expected is None:
        raise row.fault("answer", "a text with '#### ' and the right number")
    return Sum(row.text("question"), expected)
