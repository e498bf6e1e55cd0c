"""A study from a CSV file of anybody's runs: columns are found under their usual names, in any order."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.study import Excluded, Point, Study
from vnc.errors import UserError

# Names by preference, compared without case, spaces and punctuation.
NAMES: dict[str, tuple[str, ...]] = {
    "parameters": (
        "parameters", "params", "n", "num params", "num parameters", "n params", "n parameters", "model size",
        "model params", "model parameters", "total params", "total parameters", "non embedding params",
        "non embedding parameters", "size",
    ),
    "tokens": (
        "tokens", "d", "training tokens", "train tokens", "num tokens", "n tokens", "tokens trained", "total tokens",
        "dataset size", "data",
    ),
    "flops": (
        "flops", "flop", "c", "training flop", "training flops", "train flops", "total flops", "compute",
        "training compute", "target flops",
    ),
    "loss": (
        "loss", "val loss", "validation loss", "eval loss", "final loss", "final val loss", "test loss", "l",
        "val bpb", "bpb", "bits per byte", "val bits per byte",
    ),
    "budget": ("budget", "flops budget", "isoflop"),
    "seed": ("seed",),
    "name": ("name", "run", "run name", "id"),
}  # fmt: skip
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Row:
    """One line of the file."""

    place: str
    """For messages: file and line."""
    name: str
    cells: Mapping[str, str]
    """By column name; missing cells are empty."""


def read_csv(path: Path) -> Study:
    """The runs of a CSV file with a header: parameters, loss, and FLOPs or tokens or both (C = 6 N D gives the other).

    The delimiter is whichever of , ; tab | the header has most of. Rows with a blank or a loss that is not finite are
    excluded by name. Raises UserError for a file that cannot be read, a missing column or a cell that is no number.
    """
    header, rows = _read(path)
    columns, notes = find_columns(header, path)
    found = [_point(row, columns) for row in rows]
    points = tuple(one for one in found if isinstance(one, Point))
    excluded = tuple(one for one in found if isinstance(one, Excluded))
    if "tokens" not in columns:
        notes.append(f"{path.name} has no tokens: D = C / (6 N)")
    if "flops" not in columns:
        notes.append(f"{path.name} has no FLOPs: C = 6 N D")
    bits = any(word in _plain(columns["loss"]) for word in ("bpb", "bitsperbyte"))
    unit = "bits per byte" if bits else "nats per token"
    return Study(points, unit, f"column {columns['parameters']!r}", excluded, tuple(notes))


def find_columns(header: Sequence[str], path: Path) -> tuple[dict[str, str], list[str]]:
    """{what: the column's name}, and a note where several columns could be meant."""
    by_plain: dict[str, str] = {}
    for column in header:
        by_plain.setdefault(_plain(column), column)
    columns, notes = {}, []
    for what, names in NAMES.items():
        fitting = [by_plain[_plain(name)] for name in names if _plain(name) in by_plain]
        if fitting:
            columns[what] = fitting[0]
        if len(fitting) > 1:
            others = ", ".join(map(repr, fitting[1:]))
            notes.append(f"{path.name}: {what} is column {fitting[0]!r}, not {others}")
    lacking = [what for what in ("parameters", "loss") if what not in columns]
    if "flops" not in columns and "tokens" not in columns:
        lacking.append("flops or tokens")
    if lacking:
        raise UserError(f"{path}: no column for {', '.join(lacking)} among {', '.join(header)}; usual names are "
                        f"{', '.join(repr(NAMES[one.split()[0]][0]) for one in lacking)}")  # fmt: skip
    return columns, notes


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _read(path: Path) -> tuple[list[str], list[Row]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    lines = text.splitlines()
    if not lines:
        raise UserError(f"{path}: is empty; it needs a header and a line for each run")
    delimiter = max(DELIMITERS, key=lines[0].count)
    reader = csv.reader(lines, delimiter=delimiter)
    header = [name.strip() for name in next(reader)]
    rows = []
    for cells in reader:
        if not any(map(str.strip, cells)):
            continue
        line = f"line {reader.line_num}"
        by_name = dict(zip(header, [*map(str.strip, cells), *[""] * len(header)], strict=False))
        rows.append(Row(f"{path}, {line}", line, by_name))
    return header, rows


def _point(row: Row, columns: Mapping[str, str]) -> Point | Excluded:
    name = row.cells[columns["name"]] if "name" in columns else ""
    name = name or row.name
    values: dict[str, float] = {}
    for what in ("parameters", "tokens", "flops", "loss", "budget", "seed"):
        if what not in columns:
            continue
        column = columns[what]
        text = row.cells[column]
        if not text and what in ("budget", "seed"):
            continue
        if not text:
            return Excluded(name, f"{column} is blank")
        value = _number(text, f"{row.place}, column {column!r}")
        if not math.isfinite(value):
            return Excluded(name, f"{column} is {text}")
        if value <= 0 and what != "seed":
            raise UserError(f"{row.place}, column {column!r}: {text} is not positive; mend it or leave the row out")
        values[what] = value
    parameters = values["parameters"]
    tokens = values["tokens"] if "tokens" in values else values["flops"] / (6 * parameters)
    flops = values["flops"] if "flops" in values else 6 * parameters * tokens
    return Point(name, parameters, tokens, flops, values["loss"], int(values.get("seed", 0)), values.get("budget"))


def _number(text: str, place: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", "").replace(" ", "")) if "," in text else float(text)
    except ValueError:
        raise UserError(f"{place}: {text!r} is not a number; write it like 1.5e9, or leave the cell blank") from None
