"""Two results of the same suite, row by row: is the difference between two models more than the noise of the questions?

Both models have answered the same rows, so each row's difference is taken and the rows are drawn anew together
(bootstrap.py): what makes a row hard for both falls out, and the interval is narrower than that of either score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from vnc.errors import UserError
from vnc.evals.bootstrap import Interval, mean_interval


@dataclass(frozen=True)
class TaskDifference:
    label: str
    num_fewshot: int
    rows: int
    """That both have answered."""
    accuracies: tuple[float, float]
    """Of the first and the second on these rows."""
    difference: float
    """Second minus first, in centred score."""
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    metric: str
    tasks: tuple[TaskDifference, ...]
    difference: float
    """Mean over the tasks, second minus first."""
    interval: Interval
    alone: tuple[str, ...]
    """Tasks that only one of them has, which count nothing here."""


@dataclass(frozen=True)
class _Task:
    baseline: float
    correct: Mapping[int, bool]


def compare(first: Path, second: Path) -> Comparison:
    """What `vnc evaluate --json` wrote of two models. Raises UserError where they have no row in common."""
    suites, tasks = zip(*(_read(path) for path in (first, second)), strict=True)
    if suites[0] != suites[1]:
        raise UserError(f"{first} is of suite {suites[0]}, {second} of {suites[1]}: compare two results of one suite")
    found, groups = [], []
    for key in (key for key in tasks[0] if key in tasks[1]):
        a, b = tasks[0][key], tasks[1][key]
        rows = sorted(a.correct.keys() & b.correct.keys())
        if rows:
            values = [(b.correct[row] - a.correct[row]) / (1 - a.baseline) for row in rows]
            accuracies = fmean(a.correct[row] for row in rows), fmean(b.correct[row] for row in rows)
            found.append(TaskDifference(key[0], key[1], len(rows), accuracies, fmean(values), mean_interval([values])))
            groups.append(values)
    if not groups:
        raise UserError(f"{first} and {second} have no row of a task in common: evaluate both on the same tasks")
    alone = tuple(sorted({label for label, _ in tasks[0].keys() ^ tasks[1].keys()}))
    difference = fmean(task.difference for task in found)
    return Comparison(suites[0], tuple(found), difference, mean_interval(groups), alone)


def _read(path: Path) -> tuple[str, dict[tuple[str, int], _Task]]:
    """The suite, and each task by (label, solved examples)."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        tasks = {
            (str(task["label"]), int(task["num_fewshot"])): _Task(
                float(task["random_baseline"]),
                {int(outcome["row"]): bool(outcome["correct"]) for outcome in task["outcomes"]},
            )
            for task in values["tasks"]
        }
        return str(values["suite"]), tasks
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give two files that vnc evaluate --json has written") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not what vnc evaluate --json writes ({type(error).__name__}: {error})") from None


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """JSON-able."""
    return {
        "suite": comparison.metric,
        "difference": comparison.difference,
        "interval": list(comparison.interval),
        "tasks": [vars(task) | {"interval": list(task.interval)} for task in comparison.tasks],
        "alone": list(comparison.alone),
    }
