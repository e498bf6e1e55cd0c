"""Files that another process may be writing at this moment, below one folder and nowhere else.

A record that is replaced while it is read, or whose end is still missing, is read again; what stays unreadable becomes
a sentence for the page, never an exception.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ATTEMPTS = 3
PAUSE_SECONDS = 0.05
LARGEST_JSON = 256 * 2**20  # bytes; a gauntlet's 70,000 rows take about 15 MB
UNSEARCHED = {"checkpoints"}  # folders with many files, none of them for the app's charts


@dataclass(frozen=True)
class Unreadable:
    """Why there is nothing: a whole clause that names the file."""

    reason: str


def stamp(*paths: Path) -> tuple[tuple[int, int] | None, ...]:
    """Of each file what changes when it does: time of last write and size; None where there is no file."""
    stamps: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((found.st_mtime_ns, found.st_size))
    return tuple(stamps)


def read_json(path: Path) -> dict[str, Any] | Unreadable:
    """A JSON object."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            if path.stat().st_size > LARGEST_JSON:
                return Unreadable(f"{path.name}: larger than {LARGEST_JSON // 2**20} MiB, so it is not opened")
            values = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            reason = f"{path.name}: {_clause(error)}"
        else:
            if isinstance(values, dict):
                return values
            return Unreadable(f"{path.name}: holds no JSON object")
    return Unreadable(reason)


def whole_lines(path: Path) -> bytes | Unreadable:
    """The lines of a file that have ended; the last one may still be on its way."""
    try:
        return path.read_bytes().rpartition(b"\n")[0] + b"\n"
    except OSError as error:
        return Unreadable(f"{path.name}: {_clause(error)}")


def folders(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """(folder, names of its files) of `root` and all below it, sorted; neither hidden ones nor links, which may lead
    outside."""
    for place, below, files in os.walk(root, followlinks=False):
        below[:] = sorted(name for name in below if name not in UNSEARCHED and not name.startswith("."))
        folder = Path(place)
        yield (
            folder,
            tuple(sorted(name for name in files if not (name.startswith(".") or (folder / name).is_symlink()))),
        )


def _clause(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"not JSON ({' '.join(str(error).split())[:120]})"
