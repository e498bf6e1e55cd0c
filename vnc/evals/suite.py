"""Score all tasks of a bundle with one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vnc.checkpoint import LoadedModel
from vnc.evals.bundle import Bundle, Task
from vnc.evals.prompts import Question, make_questions
from vnc.evals.results import Outcome, SuiteResult, TaskResult, likeliest
from vnc.evals.scoring import Scored, score

Progress = Callable[[str, int], None]
"""Hears (label of the task, rows just scored)."""


def score_bundle(
    loaded: LoadedModel, bundle: Bundle, max_examples: int | None = None, progress: Progress | None = None
) -> SuiteResult:
    """Every task of the bundle, at most `max_examples` rows of each. A pure function of its arguments: the model, its
    mode and all random states are left as they were."""
    results = (score_task(loaded, task, max_examples, progress) for task in bundle.tasks)
    return SuiteResult(tuple(results), bundle.left_out)


def score_task(
    loaded: LoadedModel, task: Task, max_examples: int | None = None, progress: Progress | None = None
) -> TaskResult:
    """One task, at most `max_examples` rows of it."""
    questions = make_questions(task, loaded.tokenizer, loaded.gpt.config.sequence_len, max_examples)

    def done(rows: int) -> None:
        if progress is not None:
            progress(task.label, rows)

    scored = score(loaded.gpt, questions, done=done)
    outcomes = tuple(outcome(question, options) for question, options in zip(questions, scored, strict=True))
    return TaskResult(task.label, task.kind, task.num_fewshot, task.baseline, outcomes)


def outcome(question: Question, options: Sequence[Scored]) -> Outcome:
    """Was the question answered rightly? Options are compared by mean loss; a continuation must be said exactly."""
    losses = tuple(option.loss for option in options)
    if question.gold is None:
        return Outcome(question.row, options[0].greedy, None, None, losses)
    choice = likeliest(losses)
    return Outcome(question.row, choice == question.gold, choice, question.gold, losses)
