"""Score a chat model on ChatCORE's tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from vnc.checkpoint import LoadedModel
from vnc.conversation import Conversation, Message, Segment
from vnc.engine import frozen_copy
from vnc.errors import UserError
from vnc.evals.bundle import LeftOut
from vnc.evals.chatcore.answers import answer
from vnc.evals.chatcore.grading import final_number, last_letters, last_number
from vnc.evals.chatcore.letters import letter_losses
from vnc.evals.chatcore.tasks import ChatTask, ChatTasks, CodeTask, LetterTask, SpellingTask, SumTask
from vnc.evals.humaneval import NEEDS_PERMISSION, grade
from vnc.evals.prompts import WHOLE, Share, scored_rows
from vnc.evals.results import Outcome, SuiteResult, TaskResult, Written, likeliest
from vnc.evals.sandbox import protections
from vnc.multiple_choice import answer_ids, letters_of
from vnc.spelling import SpellingQuestion
from vnc.tokenizer import Tokenizer

Progress = Callable[[str, int], None]
"""Hears (label of the task, rows just scored)."""

METRIC = "chatcore"
MAX_TOKENS = {"sums": 512, "code": 512, "spelling": 192}
"""Of an answer, calculator calls included. In a vocabulary of 4,096 tokens the longest solution in GSM8K's test takes
411 of them, HumanEval's longest 339 and the longest right answer to a question of spelling 98."""


def score_chatcore(
    loaded: LoadedModel,
    tasks: ChatTasks,
    max_examples: int | None = None,
    allow_code_execution: bool = False,
    progress: Progress | None = None,
    share: Share = WHOLE,
) -> SuiteResult:
    """Every task, at most `max_examples` rows of each, or a share of these (to be joined by `vnc.evals.suite.merge`). A
    pure function of its arguments: the model, its mode and all random states are left as they were.

    A model in training (one whose weights want gradients) is asked through a copy in the compute dtype. A task that
    needs code to be run without permission, or letters that the vocabulary has not, is left out by name. Raises
    UserError where that leaves nothing to score.
    """
    if max_examples is not None and max_examples < 1:
        raise UserError(f"max_examples={max_examples}: must be at least 1")
    if any(parameter.requires_grad for parameter in loaded.gpt.parameters()):
        loaded = dataclasses.replace(loaded, gpt=frozen_copy(loaded.gpt))
    results, left_out = list[TaskResult](), list(tasks.left_out)
    for task in tasks.tasks:
        reason = unfit(task, loaded.tokenizer, allow_code_execution)
        scored = LeftOut(task.label, reason) if reason else score_task(loaded, task, max_examples, progress, share)
        if isinstance(scored, LeftOut):
            left_out.append(scored)
        else:
            results.append(scored)
    if not results:
        raise UserError(f"chatcore: no task to score; left out are {_listed(left_out)}")
    return SuiteResult(tuple(results), tuple(left_out), METRIC)


def unfit(task: ChatTask, tokenizer: Tokenizer, allow_code_execution: bool) -> str | None:
    """Why a task cannot be scored, or None."""
    if isinstance(task, CodeTask):
        if not allow_code_execution:
            return NEEDS_PERMISSION
        found = protections()
        return None if found.isolated else found.in_words()
    if isinstance(task, LetterTask):
        try:
            answer_ids(letters_of(max(len(row.choices) for row in task.rows)), tokenizer)
        except ValueError as error:
            return f"this model cannot be asked for letters: {error}"
    return None


def score_task(
    loaded: LoadedModel,
    task: ChatTask,
    max_examples: int | None = None,
    progress: Progress | None = None,
    share: Share = WHOLE,
) -> TaskResult | LeftOut:
    """One task, at most `max_examples` rows of it or a share of these; left out where the sandbox could not run its
    programs. They are run: ask for permission before."""
    wanted = scored_rows(len(task.rows), max_examples)
    rows = [wanted[place] for place in share.places(len(wanted))]

    def done(count: int) -> None:
        if progress is not None:
            progress(task.label, count)

    if isinstance(task, LetterTask):
        questions = [task.rows[row] for row in rows]
        outcomes = []
        for row, question, losses in zip(rows, questions, letter_losses(loaded, questions, done), strict=True):
            choice = likeliest(losses)
            outcomes.append(Outcome(row, choice == question.gold, choice, question.gold, losses))
        return TaskResult(task.label, task.kind, 0, task.baseline, tuple(outcomes))
    written = _write(loaded, task, rows, done)
    return written if isinstance(written, LeftOut) else TaskResult(task.label, task.kind, 0, 0.0, tuple(written))


def _write(
    loaded: LoadedModel, task: SumTask | CodeTask | SpellingTask, rows: Sequence[int], done: Callable[[int], None]
) -> list[Written] | LeftOut:
    limit = MAX_TOKENS[task.kind]
    if isinstance(task, CodeTask):
        problems = [task.rows[row] for row in rows]
        texts = answer(loaded, [_asked(code_question(problem.prompt)) for problem in problems], limit, done)
        grades = grade(problems, texts, allow_code_execution=True)
        not_run = next((ran for ran in grades if ran.end == "not run"), None)
        if not_run is not None:
            return LeftOut(task.label, not_run.stderr)
        return [
            Written(row, ran.end == "passed", text, f"a program that passes the tests of {problem.task_id}")
            for row, ran, text, problem in zip(rows, grades, texts, problems, strict=True)
        ]
    if isinstance(task, SumTask):
        sums = [task.rows[row] for row in rows]
        texts = answer(loaded, [_asked(each.question) for each in sums], limit, done)
        return [
            Written(row, final_number(text) == each.expected, text, each.expected)
            for row, text, each in zip(rows, texts, sums, strict=True)
        ]
    questions = [task.rows[row] for row in rows]
    texts = answer(loaded, [_asked(each.text) for each in questions], limit, done)
    return [
        Written(row, spelled_right(text, each), text, each.expected)
        for row, text, each in zip(rows, texts, questions, strict=True)
    ]


def spelled_right(text: str, question: SpellingQuestion) -> bool:
    """Is what the answer ends with, single letters or a number, what was asked for? All else in it is let pass."""
    found = last_letters(text) if question.letter is None else last_number(text)
    return found == question.expected


def code_question(prompt: str) -> str:
    """The user's message for a function that is to be completed."""
    return f"Complete this Python function. Answer with the whole function in a code block.\n\n```python\n{prompt}```"


def _asked(question: str) -> Conversation:
    return Conversation((Message("user", (Segment("text", question),)),))


def _listed(left_out: Sequence[LeftOut]) -> str:
    return "; ".join(f"{task.label} ({task.reason})" for task in left_out)
