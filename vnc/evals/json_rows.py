"""Rows of JSON files that people hand us: read with the place of each, so that a mistake is told with its file, line
and key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnc.errors import UserError


@dataclass(frozen=True)
class Row:
    """One JSON object and where it stands."""

    where: str
    values: dict[str, Any]

    def fault(self, key: str, expected: str) -> UserError:
        found = "none" if key not in self.values else json.dumps(self.values[key])
        shown = found if len(found) <= 60 else f"{found[:60]}..."
        return UserError(f"{self.where}: key {key!r} must be {expected}, found {shown}")

    def text(self, key: str) -> str:
        """A string, perhaps an empty one."""
        value = self.values.get(key)
        if not isinstance(value, str):
            raise self.fault(key, "a string")
        return value

    def words(self, key: str) -> str:
        """A string with something in it."""
        value = self.text(key)
        if not value.strip():
            raise self.fault(key, "a string that is not empty")
        return value

    def whole_number(self, key: str) -> int:
        value = self.values.get(key)
        if type(value) is not int:
            raise self.fault(key, "a whole number")
        return value


def read_json_lines(path: Path) -> list[Row]:
    """Every line of a JSONL file that is not blank; at least one. Raises UserError."""
    rows = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            rows.append(_row(where, _parse(where, line)))
    if not rows:
        raise UserError(f"{path}: no rows in it; restore the file")
    return rows


def read_json_list(path: Path) -> list[Row]:
    """The objects of a JSON file that holds one list of them; at least one. Raises UserError."""
    items = _parse(str(path), _read_text(path))
    if not isinstance(items, list) or not items:
        raise UserError(f"{path}: must hold a list of objects")
    return [_row(f"{path}, item {number}", item) for number, item in enumerate(items, start=1)]


def _row(where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where}: a row must be a JSON object, not {type(value).__name__}")
    return Row(where, value)


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; restore it or name another folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
