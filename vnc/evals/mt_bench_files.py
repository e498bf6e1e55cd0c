"""MT-Bench as FastChat publishes it (fastchat/llm_judge/data): what is read of it, and checked.

question.jsonl                 question_id, category, turns
reference_answer/gpt-4.jsonl   right answers for the judge to compare with, in the categories that have them
judge_prompts.jsonl            what the judge is asked; used word for word
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from vnc.errors import UserError
from vnc.evals.json_rows import Row, read_json_lines

QUESTIONS, REFERENCES, PROMPTS = "question.jsonl", "reference_answer/gpt-4.jsonl", "judge_prompts.jsonl"
PROMPT_FIELDS = {
    "single-v1": {"question", "answer"},
    "single-math-v1": {"question", "ref_answer_1", "answer"},
    "single-v1-multi-turn": {"question_1", "answer_1", "question_2", "answer_2"},
    "single-math-v1-multi-turn": {
        *("question_1", "ref_answer_1", "answer_1"),
        *("question_2", "ref_answer_2", "answer_2"),
    },
}


@dataclass(frozen=True)
class TwoTurns:
    """One question of MT-Bench; its second turn builds on the first."""

    question_id: int
    category: str
    turns: tuple[str, str]
    reference: tuple[str, str] | None
    """Right answers to both turns, where the category has them."""


@dataclass(frozen=True)
class JudgePrompt:
    name: str
    system: str
    template: str
    """A format string with the fields that PROMPT_FIELDS lists for its name."""


@dataclass(frozen=True)
class MTBench:
    questions: tuple[TwoTurns, ...]
    prompts: Mapping[str, JudgePrompt]


def read_mt_bench(folder: Path) -> MTBench:
    """Questions, reference answers and judge prompts. Raises UserError, naming file, line and key."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; MT-Bench has question.jsonl, judge_prompts.jsonl, reference_answer/"
        )
    references: dict[int, tuple[str, str]] = {}
    for row in read_json_lines(folder / REFERENCES):
        references[row.whole_number("question_id")] = _answered(row)
    questions: list[TwoTurns] = []
    for row in read_json_lines(folder / QUESTIONS):
        number = row.whole_number("question_id")
        if any(number == earlier.question_id for earlier in questions):
            raise UserError(f"{row.where}: question_id {number} stands there twice; give each a number of its own")
        category, turns = row.words("category"), _two_texts(row, "turns", row.values.get("turns"))
        questions.append(TwoTurns(number, category, turns, references.get(number)))
    _check_references(folder, questions)
    return MTBench(tuple(questions), read_judge_prompts(folder / PROMPTS))


def read_judge_prompts(path: Path) -> dict[str, JudgePrompt]:
    """The prompts that rate single answers, by name; those that compare two are passed over."""
    prompts = {}
    for row in read_json_lines(path):
        name = row.words("name")
        if name not in PROMPT_FIELDS:
            continue
        prompts[name] = JudgePrompt(name, row.text("system_prompt"), row.words("prompt_template"))
        try:
            fields = {field for _, field, _, _ in Formatter().parse(prompts[name].template) if field is not None}
        except ValueError as error:
            raise UserError(f"{row.where}: key 'prompt_template' is no format string ({error})") from None
        if fields != PROMPT_FIELDS[name]:
            raise UserError(f"{row.where}: key 'prompt_template' of {name} must have the fields "
                            f"{sorted(PROMPT_FIELDS[name])}, found {sorted(fields)}")  # fmt: skip
    for name in PROMPT_FIELDS:
        if name not in prompts:
            raise UserError(f"{path}: has no prompt named {name!r}; restore the file")
    return prompts


def _check_references(folder: Path, questions: Sequence[TwoTurns]) -> None:
    """A category is judged with references or without, never half and half."""
    with_some = {question.category for question in questions if question.reference}
    for question in questions:
        if question.category in with_some and question.reference is None:
            raise UserError(f"{folder / REFERENCES}: has answers to {question.category}, but none to question "
                            f"{question.question_id}; restore the file")  # fmt: skip


def _answered(row: Row) -> tuple[str, str]:
    choices = row.values.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise row.fault("choices", "a list with an object that has turns")
    return _two_texts(row, "choices", choices[0].get("turns"))


def _two_texts(row: Row, key: str, turns: Any) -> tuple[str, str]:
    if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, str) and turn for turn in turns):
        raise row.fault(key, "a list of two turns" if key == "turns" else "a list with two turns in its first object")
    return turns[0], turns[1]
