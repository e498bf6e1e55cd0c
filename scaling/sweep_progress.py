"""How far a run has come, read from its record (run.json) while another process writes it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.json_files import write_json

LOG_NAME = "log.txt"


@dataclass(frozen=True)
class Progress:
    """Zeros and None for a run that has recorded nothing yet."""

    status: str | None = None
    """As in the record: running, finished, interrupted, failed."""
    reason: str | None = None
    step: int = 0
    """Steps done."""
    loss: float | None = None
    """Smoothed training loss, nats per token."""
    bits_per_byte: float | None = None
    tokens_per_second: float | None = None
    flops: float = 0.0
    """Spent by the steps done."""
    hours: float = 0.0
    """Of wall clock, in all processes of the run one after another."""


def read_progress(folder: Path) -> Progress:
    path = folder / "run.json"
    try:
        stat = path.stat()
    except FileNotFoundError:
        return Progress()
    return _parse(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1024)  # a table is drawn more often than a record is written
def _parse(path: Path, modified: int, size: int) -> Progress:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    last = record["train"][-1] if record["train"] else {}
    validated = record["val"][-1] if record["val"] else {}
    return Progress(
        status=record["status"],
        reason=record.get("reason"),
        step=last["step"] + 1 if last else 0,
        loss=last.get("loss_ema", last.get("loss")),
        bits_per_byte=validated.get("bits_per_byte"),
        tokens_per_second=last.get("tokens_per_second"),
        flops=last.get("flops", 0.0),
        hours=record.get("hours", 0.0),
    )


def note_death(folder: Path, reason: str) -> None:
    """A process that was killed could not say so: its record says that it is running. Put it right, so that whoever
    reads it, such as a fit, knows why the run is missing. Only once the process has ended."""
    path = folder / "run.json"
    if not path.is_file():
        return
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["status"] == "running":
        write_json(path, record | {"status": "failed", "reason": reason})


def last_line(log: Path) -> str:
    """The last line of a log that says anything; empty if there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65_536))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said and not said[-1].startswith("$ ") else ""
