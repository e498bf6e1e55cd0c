"""Files of records: Parquet or JSON Lines with the same columns, opened once and read one record at a time.

A Parquet file is decoded into Arrow's own memory and stays there; a JSON Lines file stays on disk, mapped, and only the
places of its lines are kept. Neither becomes Python objects before a record is asked for, and every record knows which
row or line it is, for messages.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vnc.errors import UserError

SUFFIXES = (".parquet", ".jsonl")
SCANNED = 1 << 24  # bytes of a JSON Lines file that are looked at together


@dataclass(frozen=True)
class Record:
    """One row of a file: its values by column, and where they stand."""

    values: dict[str, Any]
    where: str

    def text(self, key: str) -> str:
        """The value of `key`. Raises UserError unless it is a string."""
        value = self.values.get(key)
        if not isinstance(value, str):
            raise self.wrong(f"{key} is {value!r:.40}, not a text")
        return value

    def texts(self, key: str) -> list[str]:
        """The value of `key`. Raises UserError unless it is a list of strings, at least one."""
        value = self.values.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.wrong(f"{key} is {value!r:.40}, not a list of texts")
        return value

    def wrong(self, problem: object) -> UserError:
        """What to raise for this record."""
        return UserError(f"{self.where}: {problem}; correct this record, or drop it from the file")


class Table(Protocol):
    """The records of one file."""

    path: Path

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


def open_table(path: Path, columns: Sequence[str]) -> Table:
    """The records of a file; of a Parquet file only `columns` are read, of which at least one must be there.

    Raises UserError where there is no such file, where it is broken, empty, or of another kind.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: conversations are read from {' or '.join(SUFFIXES)} files; write it as one of them")
    if not path.is_file():
        raise UserError(f"{path}: no such file; name one that is there with path: in --data.tasks")
    return ParquetTable(path, columns) if path.suffix == ".parquet" else JsonLines(path)


class ParquetTable:
    """A Parquet file in Arrow's memory."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self._columns = path, tuple(columns)
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                found = [name for name in columns if name in file.schema_arrow.names]
                if not found:
                    raise UserError(f"{path}: none of the columns {', '.join(columns)} in it, only "
                                    f"{', '.join(file.schema_arrow.names)}; rename those")  # fmt: skip
                self._table = file.read(columns=found)
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{path}: not a whole Parquet file ({_first_line(error)}); fetch or write it again"
            ) from error
        if not len(self):
            raise _empty(path)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: int) -> Record:
        names = self._table.column_names
        where = f"{self.path}, row {index}"
        try:
            return Record({name: self._table.column(name)[index].as_py() for name in names}, where)
        except UnicodeDecodeError as error:
            raise Record({}, where).wrong(f"not UTF-8 ({error.reason})") from error

    def __reduce__(self) -> tuple[Any, ...]:  # another process opens the file itself
        return ParquetTable, (self.path, self._columns)


class JsonLines:
    """A file with one JSON value in each line; blank lines are passed over. An object is its own record; any other
    value is the record's `messages`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes: mmap.mmap | bytes = b""
                if path.stat().st_size:  # nothing cannot be mapped
                    self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); give a file that can") from error
        self._starts, self._ends, self._numbers = _lines(self._bytes)
        if not len(self):
            raise _empty(path)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Record:
        where = f"{self.path}, line {self._numbers[index]}"
        try:
            value = json.loads(self._bytes[self._starts[index] : self._ends[index]])
        except (ValueError, RecursionError) as error:
            raise Record({}, where).wrong(f"not JSON in UTF-8 ({_first_line(error)})") from error
        return Record(value if isinstance(value, dict) else {"messages": value}, where)

    def __reduce__(self) -> tuple[Any, ...]:
        return JsonLines, (self.path,)


def _lines(data: mmap.mmap | bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each line that is not blank starts and ends, and its number, from 1."""
    breaks = [
        np.flatnonzero(np.frombuffer(data[start : start + SCANNED], dtype=np.uint8) == ord("\n")) + start
        for start in range(0, len(data), SCANNED)
    ]
    ends = np.concatenate([*breaks, [len(data)]]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    filled = np.array([_filled(data, start, end) for start, end in zip(starts, ends, strict=True)], dtype=bool)
    return starts[filled], ends[filled], np.flatnonzero(filled) + 1


def _filled(data: mmap.mmap | bytes, start: int, end: int) -> bool:
    # Nearly all lines are decided by their first character.
    return end > start and (not data[start : start + 1].isspace() or not data[start:end].isspace())


def _empty(path: Path) -> UserError:
    return UserError(f"{path}: no records in it; fetch or write it again, or leave it out of --data.tasks")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
