"""How far a long piece of work has come: a bar in a terminal, a plain line every ten seconds elsewhere, on stderr."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Literal

LINE_SECONDS = 10.0


class Progress:
    """`with Progress("reading", total_bytes) as progress: progress.advance(bytes)`; `total` may be 0, unknown.

    unit: bytes, shown in MB, or items, shown as they are. Of a run's processes on one machine, the first speaks.
    """

    def __init__(self, what: str, total: int, unit: Literal["bytes", "items"] = "bytes") -> None:
        self.what, self.total, self.done, self.unit = what, total, 0, unit
        self._begun = self._spoken = time.monotonic()
        self._resumed = 0
        self._silent = os.environ.get("LOCAL_RANK", "0") != "0"

    def __enter__(self) -> Progress:
        self._bar = None
        if sys.stderr.isatty() and not self._silent:
            from rich import progress
            from rich.console import Console

            amounts = (
                (progress.DownloadColumn(), progress.TransferSpeedColumn())
                if self.unit == "bytes"
                else (progress.MofNCompleteColumn(),)
            )
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"), progress.BarColumn(), *amounts,
                progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self.what, total=self.total or None)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def resume_at(self, done: int) -> None:
        """What an earlier run did counts as done, but not for the rate."""
        self.done = self._resumed = done
        if self._bar:
            self._bar.update(self._task, completed=done)

    def reach(self, done: int) -> None:
        """`done` bytes of all are done; never fewer than before."""
        self.advance(max(0, done - self.done))

    def advance(self, amount: int) -> None:
        self.done += amount
        if self._bar:
            self._bar.update(self._task, completed=self.done)
        elif time.monotonic() - self._spoken >= LINE_SECONDS and not self._silent:
            self._spoken = time.monotonic()
            print(self.line(self._spoken - self._begun), file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """What the plain line says after so many seconds of work."""
        scale, unit = (1e6, " MB") if self.unit == "bytes" else (1.0, "")
        rate = (self.done - self._resumed) / seconds if seconds > 0 else 0.0
        speed = f"{rate / scale:,.1f}{unit}/s"
        text = f"{self.what}: {self.done / scale:,.0f}"
        if not self.total:
            return f"{text}{unit}, {speed}"
        left = f"{(self.total - self.done) / rate / 60:,.1f} minutes left" if rate else "no rate yet"
        return f"{text} of {self.total / scale:,.0f}{unit}, {speed}, {left}"
