"""What a judge has said before, so that no judgement is paid for twice and a run that was cut short goes on.

A JSONL file that only grows, one judgement a line: {"key", "model", "content"}; the key is the SHA-256 of everything
that was asked. A run that is killed may leave half a line: it is passed over, and the next line begins below it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vnc.errors import UserError

BEGINNING = b'{"key": "'


def request_key(body: Mapping[str, Any]) -> str:
    """Names a request by its content: model, messages and settings, in whatever order they stand."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class JudgeCache:
    """Judgements by the key of their request. Safe to use from several threads; several runs may append to one file,
    each knowing what was there when it began."""

    def __init__(self, path: Path | None) -> None:
        """path: None remembers for as long as the object lives. Raises UserError for a file that is something else."""
        self._path = path
        self._lock = threading.Lock()
        self._contents: dict[str, str] = {}
        self._torn = False
        if path is not None:
            self._read(path)

    def __contains__(self, key: str) -> bool:
        return key in self._contents

    def __getitem__(self, key: str) -> str:
        return self._contents[key]

    def add(self, key: str, model: str, content: str) -> None:
        line = json.dumps({"key": key, "model": model, "content": content}).encode() + b"\n"
        with self._lock:
            self._contents[key] = content
            if self._path is not None:
                self._append(self._path, b"\n" + line if self._torn else line)
                self._torn = False

    def _append(self, path: Path, line: bytes) -> None:
        try:
            with path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); make room, then run again") from error

    def _read(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()  # a place that cannot be written is told before anything is asked
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: no place for the judge's cache ({error.strerror}); choose another") from error
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                row = json.loads(line)
                self._contents[str(row["key"])] = str(row["content"])
            except (ValueError, KeyError, TypeError):
                if line[: len(BEGINNING)] != BEGINNING[: len(line)]:
                    raise UserError(f"{path}, line {number}: no judgement; the file is not a judge's cache, choose "
                                    "another place") from None  # fmt: skip
        self._torn = not content.endswith(b"\n") and bool(content)
