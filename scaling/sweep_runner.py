"""The loop of a sweep: starts runs as there is room, watches them, stops them in good order. Where they run, here or on
a cluster, is the launcher's business."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from scaling.sweep_plan import PlannedRun
from scaling.sweep_progress import LOG_NAME, Progress, last_line, note_death, read_progress
from scaling.sweep_settings import write_settings

State = Literal["waiting", "queued", "running", "finished", "interrupted", "failed"]
POLL_SECONDS = 0.5


class Job(Protocol):
    """A run that has been started."""

    def ended(self) -> str | None:
        """None while it goes on or waits for a machine; then how it ended: "" when by itself and well, else in words,
        such as "exit code 2"."""

    def waits(self) -> str | None:
        """While it goes on: why it waits for a machine; None once it has one."""

    def stop(self) -> None:
        """Ask it to save and end."""

    def kill(self) -> None:
        """End it at once."""


class Launcher(Protocol):
    @property
    def slots(self) -> int:
        """Runs that it takes at a time."""

    def start(self, runs: Sequence[tuple[PlannedRun, Path]]) -> Sequence[Job]:
        """Start runs, each with its folder."""


@dataclass
class Entry:
    """A run of the sweep and what has become of it."""

    run: PlannedRun
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    """What it is made of; kept in its folder when it starts (scaling/sweep_settings.py)."""
    state: State = "waiting"
    reason: str = ""
    job: Job | None = None

    @property
    def log(self) -> Path:
        return self.folder / LOG_NAME

    @property
    def progress(self) -> Progress:
        return read_progress(self.folder)


class StopRequests:
    """Counts SIGINT and SIGTERM while it is entered; the first asks for an orderly end."""

    def __init__(self) -> None:
        self.received: list[int] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        former = {number: signal.signal(number, lambda got, _: self.received.append(got)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def run_all(entries: Sequence[Entry], launcher: Launcher, requests: StopRequests, show: Callable[[], None]) -> None:
    """Bring every waiting entry to an end, whatever becomes of the others; `show` is called several times a second.

    After a stop request nothing new is started and what runs is asked to save and end; after a second one it is
    killed."""
    heeded = 0
    while True:
        for entry in entries:
            if entry.job is not None:
                follow(entry, entry.job, stopped=heeded > 0)
        if len(requests.received) > heeded:
            # Those that run come last: their places are not for those that wait.
            for entry in sorted(entries, key=lambda entry: entry.state == "running"):
                if entry.job is not None:
                    entry.job.stop() if heeded == 0 else entry.job.kill()
            heeded = len(requests.received)
        if not heeded:
            start_more(entries, launcher)
        show()
        if all(entry.job is None for entry in entries) and (heeded or all(e.state != "waiting" for e in entries)):
            return
        time.sleep(POLL_SECONDS)


def start_more(entries: Sequence[Entry], launcher: Launcher) -> None:
    free = launcher.slots - sum(entry.job is not None for entry in entries)
    chosen = [entry for entry in entries if entry.state == "waiting"][: max(0, free)]
    if not chosen:
        return
    for entry in chosen:
        write_settings(entry.folder, entry.settings)
    jobs = launcher.start([(entry.run, entry.folder) for entry in chosen])
    for entry, job in zip(chosen, jobs, strict=True):
        entry.job = job
        follow(entry, job)


def follow(entry: Entry, job: Job, stopped: bool = False) -> None:
    """See what has become of a run that was started. `stopped`: it was asked to end."""
    how = job.ended()
    if how is not None:
        conclude(entry, how, stopped)
        return
    waits = job.waits()
    entry.state, entry.reason = ("running", "") if waits is None else ("queued", waits)


def conclude(entry: Entry, how: str, stopped: bool = False) -> None:
    """Its process has ended: what that means for the run. `stopped`: it was asked to end."""
    entry.job = None
    progress = entry.progress
    if not how and progress.status == "finished":
        entry.state = "finished"
    elif stopped or (not how and progress.status == "interrupted"):
        saved = progress.reason if progress.status == "interrupted" else None
        entry.state, entry.reason = "interrupted", saved or how
    else:
        said = last_line(entry.log).removeprefix("error: ")
        entry.state, entry.reason = "failed", ": ".join(part for part in (how or "ended unfinished", said) if part)
        note_death(entry.folder, entry.reason)
