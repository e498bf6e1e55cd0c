"""Readers: a file of a known kind to batches of documents, from any record on. What is broken they report, with its
place, and go on after it; whether that ends the run is the caller's to say."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from datamodules.prepare import batches as reasons
from datamodules.prepare.batches import Batch, Format, Gathering
from datamodules.prepare.parquet_reader import read_parquet
from datamodules.prepare.source_files import kind_of

_CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"


def read_file(path: Path, shown: str, format: Format, skip: int = 0) -> Iterator[Batch]:
    """The documents of a file after its first `skip` records. Never empty: the last batch holds the file's end."""
    kind = kind_of(Path(shown))
    if kind == ".parquet":
        yield from read_parquet(path, shown, format.column, skip)
        return
    gathering = Gathering(shown, path.stat().st_size)
    records = 0
    try:
        with open(path, "rb") as raw, _unpacked(raw, path) as file:
            for records in _records(kind, file, gathering, format, skip):
                if gathering.full:
                    yield gathering.take(records, raw.tell())
    except (OSError, EOFError, zlib.error) as error:
        gathering.fail("", reasons.UNREADABLE, " ".join(str(error).split()))
    yield gathering.take(records)


def _records(kind: str, file: BinaryIO, into: Gathering, format: Format, skip: int) -> Iterator[int]:
    """Adds record after record to `into`; yields how many there have been, the skipped ones included."""
    if kind == ".jsonl":
        return _json_lines(file, into, format.column, skip)
    if kind == ".csv":
        return _csv_rows(file, into, format.column, skip)
    if format.document == "file":
        return _whole(file, into, skip)
    if format.document == "line":
        return _lines(file, into, skip)
    return _delimited(file, into, format.delimiter.encode(), skip)


def _json_lines(file: BinaryIO, into: Gathering, column: str, skip: int) -> Iterator[int]:
    for number, line in enumerate(file, start=1):
        if number <= skip:
            continue
        place = f":{number}"
        if number == 1:
            line = line.removeprefix(_BOM)
        try:
            value = json.loads(line.rstrip(b"\r\n")) if not line.isspace() else {column: ""}
        except UnicodeDecodeError as error:
            into.fail(place, reasons.NOT_UTF8, f"byte {error.start} of the line")
        except json.JSONDecodeError as error:
            into.fail(place, reasons.BROKEN_JSON, f"{error.msg}, column {error.colno}")
        except (ValueError, RecursionError) as error:
            into.fail(place, reasons.BROKEN_JSON, str(error))
        else:
            if not isinstance(value, dict):
                into.fail(place, reasons.BROKEN_JSON, f"a {type(value).__name__}, not an object")
            elif column not in value:
                into.fail(
                    place, reasons.NO_COLUMN, f"there is no {column!r}, but {', '.join(list(value)[:5]) or 'none'}"
                )
            elif value[column] is None:
                into.fail(place, reasons.NULL)
            elif not isinstance(value[column], str):
                into.fail(place, reasons.NO_STRING, f"{column!r} is a {type(value[column]).__name__}")
            else:
                into.add(value[column], place)
        yield number


def _csv_rows(file: BinaryIO, into: Gathering, column: str, skip: int) -> Iterator[int]:
    csv.field_size_limit(sys.maxsize)
    # Bytes that are no UTF-8 come through as halves of surrogate pairs, so that they are found row by row.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.reader(text, strict=True)
    header = next(rows, [])
    if column not in header:
        into.fail("", reasons.NO_COLUMN, f"there is no {column!r}, but {', '.join(header[:5]) or 'none'}")
        return
    index, number = header.index(column), 0
    while True:
        number += 1
        place = f":{rows.line_num + 1}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            if number > skip:
                into.fail(place, reasons.BROKEN_CSV, str(error))
                yield number
            continue
        if row is None:
            break
        if number <= skip:
            continue
        if not row:
            into.fail(place, reasons.EMPTY)
        elif len(row) <= index:
            into.fail(place, reasons.NO_COLUMN, f"{len(row)} fields, {column!r} is number {index + 1}")
        else:
            into.add(row[index], place)
        yield number
    text.detach()


def _whole(file: BinaryIO, into: Gathering, skip: int) -> Iterator[int]:
    content = file.read()
    if not skip:
        _add_decoded(content.removeprefix(_BOM), into, "")
    yield 1


def _lines(file: BinaryIO, into: Gathering, skip: int) -> Iterator[int]:
    for number, line in enumerate(file, start=1):
        if number > skip:
            _add_decoded((line if number > 1 else line.removeprefix(_BOM)).rstrip(b"\r\n"), into, f":{number}")
            yield number


def _delimited(file: BinaryIO, into: Gathering, delimiter: bytes, skip: int) -> Iterator[int]:
    waiting = bytearray(file.read(len(_BOM)).removeprefix(_BOM))
    number, searched, ended = 0, 0, False
    while not ended:
        chunk = file.read(_CHUNK)
        ended = not chunk
        waiting += chunk
        begin = 0
        while True:
            at = waiting.find(delimiter, max(begin, searched))
            if at < 0 and not (ended and begin < len(waiting)):
                break
            stop = len(waiting) if at < 0 else at
            number += 1
            if number > skip:
                _add_decoded(bytes(waiting[begin:stop]), into, f", document {number}")
                yield number
            begin = stop + len(delimiter)
            if at < 0:
                break
        del waiting[:begin]
        searched = max(0, len(waiting) - len(delimiter) + 1)  # what was searched need not be searched again


def _add_decoded(content: bytes, into: Gathering, place: str) -> None:
    try:
        into.add(content.decode(), place)
    except UnicodeDecodeError as error:
        into.fail(place, reasons.NOT_UTF8, f"byte {error.start}")


@contextmanager
def _unpacked(raw: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    if path.suffix.lower() != ".gz":
        yield raw
        return
    with gzip.GzipFile(fileobj=raw) as packed:
        yield packed  # type: ignore[misc]
