"""Files that are either whole or not there: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], None], beside: Path | None = None) -> None:
    """Put what `write` writes at `path`, in one step; until then it grows as `beside` (default: `path` + .part)."""
    part = beside or path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON at `path`, in one step."""
    write_whole(path, lambda file: _dump(file, value))


def append_line(path: Path, value: Any) -> None:
    """Add `value` as a line of JSON to a journal, durably. A line that a crash cut short, `read_lines` passes over."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(value).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """The whole lines of a journal, [] when there is none."""
    values = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            values.append(json.loads(line))
        except ValueError:
            continue
    return values


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _dump(file: BinaryIO, value: Any) -> None:
    file.write(json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")
