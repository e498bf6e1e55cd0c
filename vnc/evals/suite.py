"""Score all tasks of a bundle with one model.

The rows of all tasks are scored together, so that a batch holds rows of equal length whatever their task; only so many
prompts are in memory at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest

from vnc.checkpoint import LoadedModel
from vnc.errors import UserError
from vnc.evals.bundle import Bundle, LeftOut, Task
from vnc.evals.prompts import WHOLE, Question, Share, make_questions
from vnc.evals.results import Outcome, SuiteResult, TaskResult, likeliest
from vnc.evals.scoring import Scored, score
from vnc.evals.writing import score_written

Progress = Callable[[str, int], None]
"""Hears (label of the task, rows just scored)."""

JUDGED = ("multiple_choice", "schema", "language_modeling")
"""Types of tasks that are decided by likelihood."""

TOKENS_AT_A_TIME = 8_000_000  # of prompts, in int32: 32 MB


def score_bundle(
    loaded: LoadedModel,
    bundle: Bundle,
    max_examples: int | None = None,
    progress: Progress | None = None,
    share: Share = WHOLE,
    allow_code_execution: bool = False,
) -> SuiteResult:
    """Every task of the bundle, at most `max_examples` rows of each, or a share of these (to be joined by `merge`).
    Tasks whose answers are programs are left out unless these may be run; UserError where that leaves nothing.

    A pure function of its arguments: the model, its mode and all random states are left as they were."""
    judged = [task for task in bundle.tasks if task.kind in JUDGED]
    found: dict[int, TaskResult | LeftOut] = {
        id(task): result
        for task, result in zip(judged, _judge(loaded, judged, max_examples, progress, share), strict=True)
    }
    written = [task for task in bundle.tasks if task.kind not in JUDGED]
    for task in written:
        done = None if progress is None else partial(progress, task.label)
        found[id(task)] = score_written(loaded, task, max_examples, allow_code_execution, done, share)
    results = [found[id(task)] for task in bundle.tasks]
    left_out = [result for result in results if isinstance(result, LeftOut)]
    scored = [result for result in results if isinstance(result, TaskResult)]
    if not scored:
        reasons = "; ".join(f"{left.label} ({left.reason})" for left in (*bundle.left_out, *left_out))
        raise UserError(f"no task to score; left out are {reasons}")
    return SuiteResult(tuple(scored), (*bundle.left_out, *left_out))


def _judge(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    max_examples: int | None,
    progress: Progress | None,
    share: Share,
) -> list[TaskResult]:
    """Tasks that are decided by likelihood, their rows scored together."""
    outcomes: list[list[Outcome]] = [[] for _ in tasks]
    for numbers, questions in _portions(loaded, tasks, max_examples, share):

        def done(places: Sequence[int], numbers: list[int] = numbers) -> None:
            if progress is not None:
                for number, rows in Counter(numbers[place] for place in places).items():
                    progress(tasks[number].label, rows)

        scored = score(loaded.gpt, questions, done=done)
        for number, question, options in zip(numbers, questions, scored, strict=True):
            outcomes[number].append(outcome(question, options))
    return [
        TaskResult(task.label, task.kind, task.num_fewshot, task.baseline, tuple(found))
        for task, found in zip(tasks, outcomes, strict=True)
    ]


def score_task(
    loaded: LoadedModel, task: Task, max_examples: int | None = None, progress: Progress | None = None
) -> TaskResult:
    """One task, at most `max_examples` rows of it."""
    return score_bundle(loaded, Bundle((task,)), max_examples, progress).tasks[0]


def merge(shares: Sequence[SuiteResult]) -> SuiteResult:
    """The whole result from the shares 0, 1, ... of it: rows again in the order in which they are asked."""
    tasks = []
    for parts in zip(*(share.tasks for share in shares), strict=True):
        dealt = zip_longest(*(part.outcomes for part in parts))
        outcomes = tuple(found for turn in dealt for found in turn if found is not None)
        tasks.append(replace(parts[0], outcomes=outcomes))
    return replace(shares[0], tasks=tuple(tasks))


def _portions(
    loaded: LoadedModel, tasks: Sequence[Task], max_examples: int | None, share: Share
) -> Iterator[tuple[list[int], list[Question]]]:
    """(index of each question's task, the questions), a few million tokens at a time."""
    numbers: list[int] = []
    questions: list[Question] = []
    tokens = 0
    for number, task in enumerate(tasks):
        context = loaded.gpt.config.sequence_len
        for question in make_questions(task, loaded.tokenizer, context, max_examples, share):
            numbers.append(number)
            questions.append(question)
            tokens += sum(len(prompt.tokens) for prompt in question.prompts)
            if tokens >= TOKENS_AT_A_TIME:
                yield numbers, questions
                numbers, questions, tokens = [], [], 0
    if questions:
        yield numbers, questions


def outcome(question: Question, options: Sequence[Scored]) -> Outcome:
    """Was the question answered rightly? Options are compared by mean loss; a continuation must be said exactly."""
    losses = tuple(option.loss for option in options)
    if question.gold is None:
        return Outcome(question.row, options[0].greedy, None, None, losses)
    choice = likeliest(losses)
    return Outcome(question.row, choice == question.gold, choice, question.gold, losses)
