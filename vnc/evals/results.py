"""What an evaluation found: row by row, task by task, and in one number.

A centred score is 0 where guessing is and 1 where all answers are right: (accuracy - baseline) / (1 - baseline). CORE
is the mean of the centred scores of its tasks (DCLM, arXiv 2406.11794).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from vnc.evals.bundle import Kind, LeftOut


@dataclass(frozen=True)
class Outcome:
    """What became of one row."""

    row: int
    """Its index in the task's file."""
    correct: bool
    choice: int | None
    """The option that the model finds likeliest; None in language modelling."""
    gold: int | None
    losses: tuple[float | None, ...]
    """Mean loss of each option in nats per token; None for an option with no token of its own."""


@dataclass(frozen=True)
class TaskResult:
    label: str
    kind: Kind
    num_fewshot: int
    baseline: float
    """Accuracy of guessing."""
    outcomes: tuple[Outcome, ...]
    """In the order in which the rows were asked."""

    @property
    def accuracy(self) -> float:
        return fmean(outcome.correct for outcome in self.outcomes)

    @property
    def centered(self) -> float:
        return centered(self.accuracy, self.baseline)


@dataclass(frozen=True)
class SuiteResult:
    tasks: tuple[TaskResult, ...]
    left_out: tuple[LeftOut, ...] = ()
    """Tasks that were wanted, but are in none of the averages."""

    @property
    def core(self) -> float:
        """Mean centred score."""
        return fmean(task.centered for task in self.tasks)

    @property
    def mean_accuracy(self) -> float:
        """Plain mean over all tasks."""
        return fmean(task.accuracy for task in self.tasks)

    @property
    def choice_tasks(self) -> tuple[TaskResult, ...]:
        """The tasks on which guessing scores something, so that an accuracy can be compared with chance."""
        return tuple(task for task in self.tasks if task.baseline > 0)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the averages, and each task with its rows."""
        chosen = self.choice_tasks
        return {
            "core": self.core,
            "mean_accuracy": self.mean_accuracy,
            "choice_tasks_mean_accuracy": fmean(task.accuracy for task in chosen) if chosen else None,
            "left_out": [dataclasses.asdict(task) for task in self.left_out],
            "tasks": [
                {
                    "label": task.label,
                    "type": task.kind,
                    "num_fewshot": task.num_fewshot,
                    "rows": len(task.outcomes),
                    "accuracy": task.accuracy,
                    "random_baseline": task.baseline,
                    "centered": task.centered,
                    "outcomes": [dataclasses.asdict(outcome) for outcome in task.outcomes],
                }
                for task in self.tasks
            ],
        }


def centered(accuracy: float, baseline: float) -> float:
    """Where an accuracy stands between guessing (0) and all right (1); below 0 when it is worse than guessing."""
    return (accuracy - baseline) / (1.0 - baseline)


def likeliest(losses: Sequence[float | None]) -> int:
    """The option with the lowest mean loss, the first of equals.

    An option without a token of its own (None: all others begin with it) has no mean. In the reference that is a NaN,
    which no comparison replaces and none prefers, so such an option is chosen where it comes first and nowhere else.
    In GPT-2's vocabulary that decides 4 of piqa's first 1,500 rows and no other row of CORE.
    """
    best = losses[0]
    if best is None:
        return 0
    choice = 0
    for option, loss in enumerate(losses):
        if loss is not None and loss < best:
            choice, best = option, loss
    return choice
