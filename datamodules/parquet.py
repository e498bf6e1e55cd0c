"""A folder of Parquet shards with a `text` column.

The shards are taken in the order of their names; the last one is validation. `read_shards` opens every shard once and
refuses what training would stumble over hours later; `read_texts` reads documents of one row group.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vnc.errors import UserError

COLUMN = "text"


@dataclass(frozen=True)
class Shard:
    """One Parquet file, checked: it opens and its `text` column holds strings without a known null."""

    path: Path
    size: int
    """Bytes of the file."""
    row_groups: tuple[int, ...]
    """Documents in each row group."""

    @property
    def documents(self) -> int:
        return sum(self.row_groups)


def read_shards(folder: Path) -> tuple[tuple[Shard, ...], Shard]:
    """The training shards and the validation shard of a data folder. Raises UserError for anything amiss in it."""
    if not folder.exists():
        raise UserError(f"{folder}: no such data folder; `vnc prepare` makes one, or name another with --data.data_dir")
    if not folder.is_dir():
        raise UserError(f"{folder}: a file; --data.data_dir takes the folder that holds the Parquet shards")
    paths = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder}: no Parquet shards (*.parquet) in it; `vnc prepare` writes them, or name another "
                        "folder with --data.data_dir")  # fmt: skip
    if len(paths) == 1:
        raise UserError(f"{folder}: {paths[0].name} is its only shard; the last shard is kept for validation, which "
                        "leaves nothing to train on: split it in two or more")  # fmt: skip
    *training, validation = [open_shard(path) for path in paths]
    for name, shards in (("training", training), ("validation", [validation])):
        if not sum(shard.documents for shard in shards):
            raise UserError(f"{folder}: the {name} shards ({shards[0].path.name} ...) hold no documents")
    return tuple(training), validation


def open_shard(path: Path) -> Shard:
    """Reads a shard's footer. Raises UserError if it is broken, has no `text` column of strings, or counts a null."""
    try:
        with pq.ParquetFile(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
            size = path.stat().st_size
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a whole Parquet file ({_first_line(error)}); fetch or write it again") from error
    if COLUMN not in schema.names:
        raise UserError(f"{path}: no column {COLUMN!r} (there are {', '.join(schema.names)}); rename the one with text")
    kind = schema.field(COLUMN).type
    if not _is_text(kind):
        raise UserError(f"{path}: column {COLUMN!r} holds {kind}, not strings; write it as strings")
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == COLUMN)
    groups = range(metadata.num_row_groups)
    for group in groups:
        statistics = metadata.row_group(group).column(leaf).statistics
        if statistics is not None and statistics.has_null_count and statistics.null_count:
            read_texts(path, group)  # to name the row
    return Shard(path, size, tuple(metadata.row_group(group).num_rows for group in groups))


def read_texts(path: Path, group: int, first: int = 0, stop: int | None = None) -> list[str]:
    """The documents `first` to `stop` of a row group. Raises UserError naming file, row group and, if known, row."""
    where = f"{path}, row group {group}"
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            column = file.read_row_group(group, columns=[COLUMN]).column(COLUMN)[first:stop]
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{where}: cannot be read ({_first_line(error)}); fetch or write the file again") from error
    if column.null_count:
        row = next(row for row, value in enumerate(column, start=first) if not value.is_valid)
        raise UserError(f"{where}, row {row}: the document is null; drop the row, or write an empty text")
    try:
        texts: list[str] = column.to_pylist()
    except UnicodeDecodeError as error:
        row = next(row for row, value in enumerate(column, start=first) if not _decodes(value))
        raise UserError(f"{where}, row {row}: the document is not UTF-8 ({error.reason}); re-encode it") from error
    return texts


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _decodes(value: Any) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
