"""The numbers of a run over its steps: from metrics.csv, else from run.json, else from TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamlit_app.event_files import read_scalars
from streamlit_app.live_files import Unreadable, whole_lines

Array = np.ndarray[Any, np.dtype[np.float64]]

SUITES = ("core", "chatcore")
"""The averages of run.json's `evals`, under the tag that TensorBoard has them: core/core."""


@dataclass(frozen=True)
class Metric:
    """One number over the run."""

    done: Array
    """(points,) optimizer steps taken when it was noted, ascending."""
    values: Array
    """(points,) NaN only where the run noted NaN."""


Metrics = dict[str, Metric]
"""By the name that metrics.csv and TensorBoard use: train/loss, val/bits_per_byte."""


def make_metric(points: Iterable[tuple[float, float]]) -> Metric:
    """From (steps taken, value) in any order; of two at one step the later one counts."""
    latest = sorted(dict(points).items())
    table = np.array(latest, dtype=np.float64).reshape(len(latest), 2)
    return Metric(table[:, 0], table[:, 1])


def steps_taken(name: str, step: float) -> float:
    """A row of training is numbered by the step it took, counted from 0; others by how many had been taken."""
    return step + 1 if name.startswith(("train/", "data/")) else step


def from_csv(path: Path) -> tuple[Metrics, list[str]]:
    """Of metrics.csv; lines that do not fit its header are left out and counted."""
    from pyarrow import ArrowInvalid, csv, float64

    content = whole_lines(path)
    if isinstance(content, Unreadable):
        return {}, [content.reason]
    names = content.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")
    if "step" not in names:
        return {}, [f"{path.name}: has no column 'step'"] if content.strip() else []
    skipped = 0

    def skip(_: Any) -> str:
        nonlocal skipped
        skipped += 1
        return "skip"

    try:
        table = csv.read_csv(
            _buffer(content),
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(invalid_row_handler=skip),
            convert_options=csv.ConvertOptions(column_types={name: float64() for name in names}, null_values=[""]),
        )
    except ArrowInvalid as error:
        return {}, [f"{path.name}: {' '.join(str(error).split())}"]
    problems = [f"{path.name}: {skipped} damaged line{'s' * (skipped > 1)} left out"] if skipped else []
    steps = table.column("step").to_numpy()
    metrics = {}
    for name in table.column_names:
        column = table.column(name)
        known = column.is_valid().to_numpy() & ~np.isnan(steps)
        if name != "step" and known.any():
            metrics[name] = _sorted(steps[known] + steps_taken(name, 0), column.to_numpy()[known])
    return metrics, problems


def from_record(record: Mapping[str, Any]) -> Metrics:
    """Of run.json: training, validation and benchmarks. Rows that are not as they should be are passed over."""
    points: dict[str, list[tuple[float, float]]] = {}
    for part, prefix in (("train", "train/"), ("val", "val/")):
        for row in _rows(record.get(part)):
            for key, value in row.items():
                if key != "step" and _is_number(value):
                    points.setdefault(prefix + key, []).append((steps_taken(prefix, row["step"]), float(value)))
    for row in _rows(record.get("evals")):
        if row.get("suite") in SUITES and _is_number(row.get(row["suite"])):
            points.setdefault(f"{row['suite']}/{row['suite']}", []).append((row["step"], float(row[row["suite"]])))
    return {name: make_metric(found) for name, found in points.items()}


def from_events(paths: Iterable[Path]) -> tuple[Metrics, list[str]]:
    """Of TensorBoard's event files, with what could not be read of them. Lightning numbers validation by the step
    before it; benchmarks are numbered by how many steps had been taken."""
    scalars, problems = read_scalars(paths)
    found = {}
    for name, points in scalars.items():
        before = 0 if name.startswith(tuple(f"{suite}/" for suite in SUITES)) else 1
        found[name] = make_metric((step + before, value) for step, value in points.items())
    return found, problems


def _sorted(done: Array, values: Array) -> Metric:
    order = np.argsort(done, kind="stable")
    done, values = done[order], values[order]
    last = np.append(done[1:] != done[:-1], True)
    return Metric(done[last], values[last])


def _rows(found: Any) -> list[dict[str, Any]]:
    rows = found if isinstance(found, list) else []
    return [row for row in rows if isinstance(row, dict) and _is_number(row.get("step"))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _buffer(content: bytes) -> Any:
    from pyarrow import BufferReader

    return BufferReader(content)
