"""What an evaluation found: row by row, task by task, and in one number.

A centred score is 0 where guessing is and 1 where all answers are right: (accuracy - baseline) / (1 - baseline). CORE
is the mean of the centred scores of its tasks (DCLM, arXiv 2406.11794); so is ChatCORE of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from vnc.evals.bootstrap import Interval, mean_interval
from vnc.evals.bundle import LeftOut


@dataclass(frozen=True)
class Outcome:
    """What became of one row that was answered by likelihood."""

    row: int
    """Its index in the task's file."""
    correct: bool
    choice: int | None
    """The option that the model finds likeliest; None in language modelling."""
    gold: int | None
    losses: tuple[float | None, ...]
    """Mean loss of each option in nats per token; None for an option with no token of its own."""


@dataclass(frozen=True)
class Written:
    """What became of one row that was answered by writing."""

    row: int
    """Its index in the task's file."""
    correct: bool
    answer: str
    """What the model wrote, or what was found in it."""
    expected: str


@dataclass(frozen=True)
class TaskResult:
    label: str
    kind: str
    """The type of the task: how its rows are asked and judged."""
    num_fewshot: int
    baseline: float
    """Accuracy of guessing."""
    outcomes: tuple[Outcome, ...] | tuple[Written, ...]
    """In the order in which the rows were asked."""

    @property
    def accuracy(self) -> float:
        return fmean(outcome.correct for outcome in self.outcomes)

    @property
    def centered(self) -> float:
        return centered(self.accuracy, self.baseline)

    def centered_rows(self) -> list[float]:
        """The centred score of each row alone; their mean is the task's."""
        return [centered(float(outcome.correct), self.baseline) for outcome in self.outcomes]


@dataclass(frozen=True)
class SuiteResult:
    tasks: tuple[TaskResult, ...]
    left_out: tuple[LeftOut, ...] = ()
    """Tasks that were wanted, but are in none of the averages."""
    metric: str = "core"
    """What the mean centred score is called."""

    @property
    def score(self) -> float:
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

    def interval(self) -> Interval:
        """95% bootstrap interval of the score: each task's rows are drawn anew, its tasks stay."""
        return mean_interval([task.centered_rows() for task in self.tasks])

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: the averages, and each task with its rows."""
        chosen = self.choice_tasks
        return {
            self.metric: self.score,
            f"{self.metric}_interval": list(self.interval()),
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
                    "accuracy_interval": list(mean_interval([[float(row.correct) for row in task.outcomes]])),
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
