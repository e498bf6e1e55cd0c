"""Run folders as the app shows them: found below one folder, read while training writes them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamlit_app.event_files import is_event_file
from streamlit_app.live_files import Unreadable, folders, read_json, stamp
from streamlit_app.run_metrics import SUITES, Metrics, from_csv, from_events, from_record

RECORD, NUMBERS, CONFIG = "run.json", "metrics.csv", "config.yaml"
SILENT_SECONDS = 1_200.0  # a benchmark between two steps may take 900 s by default
LARGEST_CONFIG = 2**20  # bytes


@dataclass(frozen=True)
class Run:
    name: str
    """Its path below the runs folder, with slashes."""
    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    """run.json; empty where there is none."""
    metrics: Metrics = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """What could not be read, a clause each."""
    written: float = 0.0
    """When its files last changed, seconds since 1970."""

    @property
    def plan(self) -> dict[str, Any]:
        return _object(self.record.get("plan"))

    @property
    def params(self) -> dict[str, Any]:
        return _object(self.record.get("params"))

    @property
    def status(self) -> str:
        """running, finished, interrupted or failed; "no record" without run.json."""
        return str(self.record.get("status", "no record"))

    @property
    def steps_taken(self) -> int:
        return int(max((metric.done[-1] for metric in self.metrics.values() if len(metric.done)), default=0))

    @property
    def num_steps(self) -> int | None:
        steps = self.plan.get("num_steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    def seconds_left(self) -> float | None:
        """Until the last step, at the pace of the run so far; None when it does not train or nobody can tell."""
        hours = self.metrics.get("train/hours")
        if self.status != "running" or self.num_steps is None or hours is None or not self.steps_taken:
            return None
        return float(hours.values[-1]) * 3600 * max(0, self.num_steps - self.steps_taken) / self.steps_taken

    def silent_seconds(self, now: float | None = None) -> float | None:
        """How long a run that calls itself running has written nothing, if that is longer than it ever should be."""
        silent = (time.time() if now is None else now) - self.written
        pace = self.metrics.get("train/step_seconds")
        usual = 30 * float(pace.values[-1]) if pace else 0.0
        return silent if self.status == "running" and silent > max(SILENT_SECONDS, usual) else None


@dataclass(frozen=True)
class RunPlace:
    """Where a run lies, and what changes when it is written to."""

    name: str
    folder: Path
    files: tuple[str, ...]
    """Names of what it has of run.json, metrics.csv and event files."""

    def stamps(self) -> tuple[tuple[int, int] | None, ...]:
        return stamp(*(self.folder / name for name in self.files))

    @property
    def written(self) -> float:
        return max((each[0] for each in self.stamps() if each), default=0) / 1e9


def find_runs(root: Path) -> list[RunPlace]:
    """The run folders below `root`, the one written to last first."""
    places = []
    for folder, files in folders(root):
        mine = tuple(name for name in files if name in (RECORD, NUMBERS) or is_event_file(name))
        if folder != root and mine:
            places.append(RunPlace(folder.relative_to(root).as_posix(), folder, mine))
    return sorted(places, key=lambda place: (-place.written, place.name))


def read_run(place: RunPlace) -> Run:
    """All there is to know of a run now; never raises for what its files hold."""
    problems: list[str] = []
    record: dict[str, Any] = {}
    if RECORD in place.files:
        found = read_json(place.folder / RECORD)
        if isinstance(found, Unreadable):
            problems.append(found.reason)
        else:
            record = found
    metrics = from_record(record)
    if NUMBERS in place.files:
        numbers, told = from_csv(place.folder / NUMBERS)
        problems += told
        metrics |= numbers
    if not any(name.startswith("train/") for name in metrics) or not record:
        numbers, told = from_events(place.folder / name for name in place.files if is_event_file(name))
        problems += told
        metrics = numbers | metrics
    return Run(place.name, place.folder, record, metrics, tuple(problems), place.written)


def read_config(folder: Path) -> str | None:
    """The text of config.yaml, None where there is none that can be shown."""
    path = folder / CONFIG
    try:
        fit = not path.is_symlink() and path.stat().st_size <= LARGEST_CONFIG
        return path.read_text(encoding="utf-8") if fit else None
    except (OSError, ValueError):
        return None


def failures(run: Run) -> list[str]:
    """Benchmarks that gave no score, a sentence each."""
    rows = run.record.get("evals")
    return [
        f"step {row.get('step')}: {row['suite']} gave no score: {row['failure']}"
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and row.get("suite") in SUITES and "failure" in row
    ]


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
