"""Mosaic's Eval Gauntlet: many tasks, in categories (llm-foundry's eval_gauntlet, version 0.3).

A task counts as its centred score. One whose rows name categories of their own (the subjects of MMLU, the fields of
Jeopardy) counts as the mean over these, whatever their sizes. A category is the plain mean of its tasks, an average the
plain mean of its categories. What is missing is missing by name: a category is the mean of the tasks that were scored,
and says which were not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from vnc.errors import UserError
from vnc.evals.bootstrap import Interval, mean_interval
from vnc.evals.bundle import BASELINE_FILE, Bundle, read_baselines, read_list, read_tasks, read_yaml
from vnc.evals.results import SuiteResult, TaskResult, centered

GAUNTLET_FILE = "gauntlet.yaml"
SECTION, EXTRA = "eval_gauntlet", "icl_tasks_extra"


@dataclass(frozen=True)
class Category:
    name: str
    benchmarks: tuple[tuple[str, int], ...]
    """(label, solved examples) of each task."""


@dataclass(frozen=True)
class Gauntlet:
    bundle: Bundle
    categories: tuple[Category, ...]
    averages: Mapping[str, tuple[str, ...]]
    """Names of the categories that each average is made of."""


@dataclass(frozen=True)
class CategoryScore:
    name: str
    score: float | None
    """None where none of its tasks was scored."""
    tasks: tuple[str, ...]
    missing: tuple[str, ...]


def read_gauntlet(folder: Path, labels: Collection[str] | None = None) -> Gauntlet:
    """The tasks of folder/gauntlet.yaml, or those that `labels` names, with its categories. Raises UserError."""
    section = read_yaml(folder, GAUNTLET_FILE).get(SECTION)
    where = f"{folder / GAUNTLET_FILE}: {SECTION}"
    if not isinstance(section, dict) or not isinstance(section.get("categories"), list):
        raise UserError(f"{where} must be a mapping with a list of categories")
    categories, baselines = _read_categories(section["categories"], where)
    averages = _read_averages(section.get("averages") or {}, categories, where)
    baselines = read_baselines(folder / BASELINE_FILE) | baselines
    entries = read_list(folder, GAUNTLET_FILE)
    if EXTRA in read_yaml(folder, GAUNTLET_FILE):
        extra = read_list(folder, GAUNTLET_FILE, EXTRA)
        known = {entry["label"] for entry in entries}
        if twice := [entry["label"] for entry in extra if entry["label"] in known]:
            path = folder / GAUNTLET_FILE
            raise UserError(f"{path}: {EXTRA} has the task {twice[0]!r} once more; give each a label of its own")
        entries += extra
    return Gauntlet(read_tasks(folder, GAUNTLET_FILE, entries, baselines, labels), categories, averages)


def _read_categories(values: list[Any], where: str) -> tuple[tuple[Category, ...], dict[str, float]]:
    """The categories, and by "label/shots" what guessing scores."""
    categories: list[Category] = []
    baselines: dict[str, float] = {}
    for value in values:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise UserError(f"{where}: each category must be a mapping with a name and benchmarks")
        if value["name"] in (category.name for category in categories):
            raise UserError(f"{where}: the category {value['name']} stands there twice")
        if not isinstance(value.get("benchmarks"), list) or not value["benchmarks"]:
            raise UserError(f"{where}: category {value['name']} has no list of benchmarks")
        benchmarks = []
        for entry in value["benchmarks"]:
            label, shots, baseline = (
                entry.get(key) if isinstance(entry, dict) else None
                for key in ("name", "num_fewshot", "random_baseline")
            )
            place = f"{where}: category {value['name']}"
            if not isinstance(label, str) or type(shots) is not int:
                raise UserError(f"{place}: each benchmark needs a name and a num_fewshot")
            if not isinstance(baseline, int | float) or not 0 <= baseline < 1:
                raise UserError(f"{place}, {label}: random_baseline must be from 0 to below 1, found {baseline!r}")
            benchmarks.append((label, shots))
            baselines[f"{label}/{shots}"] = float(baseline)
        categories.append(Category(value["name"], tuple(benchmarks)))
    return tuple(categories), baselines


def _read_averages(values: Any, categories: Sequence[Category], where: str) -> dict[str, tuple[str, ...]]:
    names = {category.name for category in categories}
    if not isinstance(values, dict):
        raise UserError(f"{where}: averages must be a mapping of lists of categories")
    for average, parts in values.items():
        if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
            raise UserError(f"{where}: average {average} must be a list of categories, found {parts!r}")
        if unknown := sorted(set(parts) - names):
            raise UserError(
                f"{where}: average {average}: {unknown[0]!r} is none of its categories {', '.join(sorted(names))}"
            )
    return {average: tuple(parts) for average, parts in values.items()}


@dataclass(frozen=True)
class GauntletResult:
    gauntlet: Gauntlet
    suite: SuiteResult

    @property
    def categories(self) -> tuple[CategoryScore, ...]:
        """Every category, in the order of the file."""
        found = {(task.label, task.num_fewshot): self.task_score(task) for task in self.suite.tasks}
        scores = []
        for category in self.gauntlet.categories:
            here = [benchmark for benchmark in category.benchmarks if benchmark in found]
            missing = tuple(label for label, shots in category.benchmarks if (label, shots) not in found)
            score = fmean(found[benchmark] for benchmark in here) if here else None
            scores.append(CategoryScore(category.name, score, tuple(label for label, _ in here), missing))
        return tuple(scores)

    @property
    def averages(self) -> dict[str, float | None]:
        """Mean over the categories that have a score; None where none has."""
        scores = {category.name: category.score for category in self.categories}
        averages: dict[str, float | None] = {}
        for name, parts in self.gauntlet.averages.items():
            known = [score for part in parts if (score := scores[part]) is not None]
            averages[name] = fmean(known) if known else None
        return averages

    def task_score(self, task: TaskResult) -> float:
        """Centred; the mean over the categories of its rows where these are named."""
        return centered(fmean(fmean(rows) for rows in self._groups(task)), task.baseline)

    def interval(self, category: CategoryScore) -> Interval | None:
        """95% bootstrap interval of a category's score; None where it has none."""
        benchmarks = next(each.benchmarks for each in self.gauntlet.categories if each.name == category.name)
        tasks = [task for task in self.suite.tasks if (task.label, task.num_fewshot) in benchmarks]
        groups = [[[centered(value, task.baseline) for value in rows] for rows in self._groups(task)] for task in tasks]
        return mean_interval(groups) if groups else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: averages and categories, then what SuiteResult tells of every task."""
        values = self.suite.as_dict()
        return {
            "averages": self.averages,
            "categories": [
                {
                    "name": category.name,
                    "score": category.score,
                    "interval": None if (interval := self.interval(category)) is None else list(interval),
                    "tasks": list(category.tasks),
                    "missing": list(category.missing),
                }
                for category in self.categories
            ],
            **values,
        }

    def _groups(self, task: TaskResult) -> list[list[float]]:
        """Right (1) or wrong (0) of the task's rows, by category of the rows."""
        named = next(
            each.categories
            for each in self.gauntlet.bundle.tasks
            if (each.label, each.num_fewshot) == (task.label, task.num_fewshot)
        )
        groups: dict[str, list[float]] = {}
        for outcome in task.outcomes:
            groups.setdefault(named[outcome.row] if named else "", []).append(float(outcome.correct))
        return list(groups.values())
