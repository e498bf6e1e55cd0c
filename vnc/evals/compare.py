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
    """By row."""
    expected: Mapping[int, Any]
    """By row: what would be right."""


def compare(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str]) -> Comparison:
    """Two results as `vnc evaluate --json` writes them; `names` tells them apart in messages. Raises UserError where
    they have no row in common."""
    suites, tasks = zip(*(_read(*each) for each in zip((first, second), names, strict=True)), strict=True)
    if suites[0] != suites[1]:
        raise UserError(f"{names[0]} is of suite {suites[0]}, {names[1]} of {suites[1]}: compare two of one suite")
    found, groups = [], []
    for key in (key for key in tasks[0] if key in tasks[1]):
        a, b = tasks[0][key], tasks[1][key]
        rows = sorted(a.correct.keys() & b.correct.keys())
        if any(a.expected[row] != b.expected[row] for row in rows):
            raise UserError(f"{names[0]} and {names[1]} have other rows in {key[0]}: score both on the same bundle")
        if rows:
            values = [(b.correct[row] - a.correct[row]) / (1 - a.baseline) for row in rows]
            accuracies = fmean(a.correct[row] for row in rows), fmean(b.correct[row] for row in rows)
            difference = TaskDifference(key[0], key[1], len(rows), accuracies, fmean(values), mean_interval([values]))
            found.append(difference)
            groups.append(values)
    if not groups:
        raise UserError(f"{names[0]} and {names[1]} have no row of a task in common: score both on the same tasks")
    alone = tuple(sorted({label for label, _ in tasks[0].keys() ^ tasks[1].keys()}))
    mean = fmean(task.difference for task in found)
    return Comparison(suites[0], tuple(found), mean, mean_interval(groups), alone)


def read_results(path: Path) -> dict[str, Any]:
    """A file that `vnc evaluate --json` has written. Raises UserError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; give files that vnc evaluate --json has written, or checkpoints"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not what vnc evaluate --json writes")
    return values


def _read(values: dict[str, Any], name: str) -> tuple[str, dict[tuple[str, int], _Task]]:
    """The suite, and each task by (label, solved examples)."""
    try:
        tasks = {
            (str(task["label"]), int(task["num_fewshot"])): _Task(
                float(task["random_baseline"]),
                {int(outcome["row"]): bool(outcome["correct"]) for outcome in task["outcomes"]},
                {int(outcome["row"]): outcome.get("gold", outcome.get("expected")) for outcome in task["outcomes"]},
            )
            for task in values["tasks"]
        }
        if not all(0 <= task.baseline < 1 for task in tasks.values()):
            raise ValueError("random_baseline must be from 0 to below 1")
        return str(values["suite"]), tasks
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{name}: holds no tasks with rows to compare ({type(error).__name__}: {error}); results of core, gauntlet "
            "and chatcore do"
        ) from None


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """JSON-able."""
    return {
        "suite": comparison.metric,
        "difference": comparison.difference,
        "interval": list(comparison.interval),
        "tasks": [vars(task) | {"interval": list(task.interval)} for task in comparison.tasks],
        "alone": list(comparison.alone),
    }
