"""Results of benchmarks below the runs folder: those kept during training, and files of `vnc evaluate --json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamlit_app.live_files import Unreadable, folders, read_json, stamp

TITLES = {"core": "CORE", "chatcore": "ChatCORE", "gauntlet": "Gauntlet"}
"""The suites whose tasks have rows that are right or wrong."""


@dataclass(frozen=True)
class TaskScore:
    name: str
    """Its label, with the number of solved examples where that tells two tasks apart."""
    label: str
    kind: str
    num_fewshot: int
    accuracy: float
    baseline: float
    """Accuracy of guessing."""
    centered: float
    interval: tuple[float, float]
    """95%, of the centred score."""
    outcomes: tuple[Mapping[str, Any], ...]
    """Rows in the order in which they were asked (vnc/evals/results.py: Outcome and Written, as JSON)."""


@dataclass(frozen=True)
class CategoryScore:
    name: str
    score: float | None
    """Centred; None where none of its tasks was scored."""
    interval: tuple[float, float] | None
    tasks: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class EvalResult:
    path: Path
    suite: str
    model: str
    """The run's path below the runs folder, or what the file says of its checkpoint."""
    step: int | None
    score: float | None
    """The mean centred score; None for a gauntlet, which has several."""
    interval: tuple[float, float] | None
    tasks: tuple[TaskScore, ...]
    left_out: tuple[tuple[str, str], ...]
    """(task, reason)"""
    categories: tuple[CategoryScore, ...]
    """Of a gauntlet; empty otherwise."""
    averages: Mapping[str, float | None]
    """Of a gauntlet's categories, by name; None where none of an average's categories has a score."""
    bundle: str | None
    """Where its rows come from, if the file tells."""
    written: float
    """When, in seconds since 1970."""
    values: Mapping[str, Any]
    """The file as it is."""

    @property
    def title(self) -> str:
        return self.model if self.step is None else f"{self.model} · step {self.step:,}"

    @property
    def rows(self) -> int:
        return sum(len(task.outcomes) for task in self.tasks)


@dataclass(frozen=True)
class ResultPlace:
    path: Path
    model: str
    """Of the run in whose folder it lies; else of the file."""

    def stamps(self) -> tuple[tuple[int, int] | None, ...]:
        return stamp(self.path)


def find_results(root: Path) -> list[ResultPlace]:
    """JSON files below `root` that may hold results: all but run records."""
    places = []
    for folder, files in folders(root):
        for name in files:
            if name.endswith(".json") and name != "run.json":
                kept = folder.name == "evals" and folder.parent != root
                model = (folder.parent if kept else folder / name.removesuffix(".json")).relative_to(root).as_posix()
                places.append(ResultPlace(folder / name, model))
    return places


def read_result(place: ResultPlace) -> EvalResult | Unreadable | None:
    """The result in a file; None where the file holds something else."""
    values = read_json(place.path)
    if isinstance(values, Unreadable):
        return values
    if str(values.get("suite")) not in TITLES or "tasks" not in values or "difference" in values:
        return None
    try:
        return _result(place, values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Unreadable(f"{place.path.name}: not what an evaluation writes ({type(error).__name__}: {error})")


def _result(place: ResultPlace, values: dict[str, Any]) -> EvalResult:
    suite, step = str(values["suite"]), values.get("step")
    model = place.model if step is not None else _checkpoint(str(values.get("checkpoint", place.model)))
    names = task_names([(str(task["label"]), int(task["num_fewshot"])) for task in values["tasks"]])
    tasks = tuple(_task(task, name) for task, name in zip(values["tasks"], names, strict=True))
    score = values.get(suite) if suite != "gauntlet" else None
    interval = values.get(f"{suite}_interval")
    return EvalResult(
        path=place.path,
        suite=suite,
        model=model,
        step=None if step is None else int(step),
        score=None if score is None else _finite(score),
        interval=None if score is None or interval is None else (_finite(interval[0]), _finite(interval[1])),
        tasks=tasks,
        left_out=tuple((str(left["label"]), str(left["reason"])) for left in values.get("left_out", ())),
        categories=tuple(_category(each) for each in values.get("categories", ())),
        averages={str(name): _known(score) for name, score in values.get("averages", {}).items()},
        bundle=values.get("bundle") if isinstance(values.get("bundle"), str) else None,
        written=max((each[0] for each in place.stamps() if each), default=0) / 1e9,
        values=values,
    )


def task_names(tasks: Sequence[tuple[str, int]]) -> list[str]:
    """Of (label, solved examples) each: as short as they can be and still differ."""
    labels = [label for label, _ in tasks]
    return [label if labels.count(label) == 1 else f"{label} ({shots}-shot)" for label, shots in tasks]


def _task(task: Mapping[str, Any], name: str) -> TaskScore:
    baseline = _finite(task["random_baseline"])
    if not 0 <= baseline < 1:
        raise ValueError(f"random_baseline {baseline} must be from 0 to below 1")
    low, high = (_finite(bound) for bound in task["accuracy_interval"])
    outcomes = tuple(task["outcomes"])
    for outcome in outcomes:
        int(outcome["row"]), bool(outcome["correct"])
    return TaskScore(
        name=name,
        label=str(task["label"]),
        kind=str(task["type"]),
        num_fewshot=int(task["num_fewshot"]),
        accuracy=_finite(task["accuracy"]),
        baseline=baseline,
        centered=_finite(task["centered"]),
        interval=((low - baseline) / (1 - baseline), (high - baseline) / (1 - baseline)),
        outcomes=outcomes,
    )


def _category(values: Mapping[str, Any]) -> CategoryScore:
    interval = values["interval"]
    return CategoryScore(
        name=str(values["name"]),
        score=_known(values["score"]),
        interval=None if interval is None else (_finite(interval[0]), _finite(interval[1])),
        tasks=tuple(str(task) for task in values["tasks"]),
        missing=tuple(str(task) for task in values["missing"]),
    )


def _known(score: Any) -> float | None:
    return None if score is None else _finite(score)


def _checkpoint(path: str) -> str:
    """NAME · CHECKPOINT of runs/NAME/checkpoints/CHECKPOINT, or the path."""
    parts = Path(path).parts
    return f"{parts[-3]} · {parts[-1]}" if len(parts) >= 3 and parts[-2] == "checkpoints" else path


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no score")
    return number
