"""Parquet shards with a `text` column, local or remote.

The shards are taken in the order of their names; the last one is validation. `read_shards` reads the footer of every
shard once and refuses what training would stumble over hours later; `read_texts` reads documents of one row group, and
of the file no more than that row group's column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.in_parallel import in_parallel
from datamodules.recent import RECENT
from datamodules.shard_files import LocalFile, ShardFile, find_local
from datamodules.stores import public
from vnc.errors import UserError

COLUMN = "text"
CACHE_BYTES = 20 * 10**9
LARGEST_REMOTE_GROUP = 10_000
"""Documents. A window is about a thousand of them, and the row group is fetched and decoded whole for each."""


@dataclass(frozen=True)
class Shard:
    """One Parquet file, checked: it opens and its `text` column holds strings without a known null."""

    file: ShardFile
    row_groups: tuple[int, ...]
    """Documents in each row group."""

    @property
    def documents(self) -> int:
        return sum(self.row_groups)

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.file.name

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.file.size

    def __str__(self) -> str:
        return self.file.location


def read_shards(
    data_dir: str | Path,
    max_shards: int | None = None,
    cache_dir: str | Path | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> tuple[tuple[Shard, ...], Shard]:
    """The training shards and the validation shard, the last one by name, of a local folder or of a URL as in
    docs/streaming.md.

    `max_shards` takes only the first so many of them, the last of those for validation. What a server sends is kept in
    `cache_dir`, up to `cache_bytes`; None keeps nothing. Raises UserError for anything amiss.
    """
    if max_shards is not None and max_shards < 2:
        raise UserError(f"max_shards={max_shards}: at least 2, one to train on and one for validation")
    files = _find(data_dir, max_shards, cache_dir, cache_bytes)
    if len(files) == 1:
        raise UserError(f"{printable(data_dir)}: {files[0].name} is its only shard; the last shard is kept for "
                        "validation, which leaves nothing to train on: split it in two or more")  # fmt: skip
    *training, validation = in_parallel("reading footers", open_shard, files)
    for name, shards in (("training", training), ("validation", [validation])):
        if not sum(shard.documents for shard in shards):
            raise UserError(f"{printable(data_dir)}: the {name} shards ({shards[0].name} ...) hold no documents")
    return tuple(training), validation


def _find(
    data_dir: str | Path, first: int | None, cache_dir: str | Path | None, cache_bytes: int
) -> Sequence[ShardFile]:
    if not is_remote(data_dir):
        return find_local(Path(data_dir))[:first]
    from datamodules.disk_cache import DiskCache
    from datamodules.remote import find_remote

    cache = None if cache_dir is None else DiskCache.at(cache_dir, cache_bytes)
    return find_remote(str(data_dir), cache, first)


def is_remote(data_dir: str | Path) -> bool:
    """Whether a data folder is given by URL."""
    return isinstance(data_dir, str) and "://" in data_dir


def printable(data_dir: str | Path) -> str:
    """How to name a data folder in messages: of a URL, no more than what may be seen by everyone."""
    return public(str(data_dir)) if is_remote(data_dir) else str(data_dir)


def identity(shards: Iterable[Shard]) -> dict[str, str]:
    """What each shard's content goes by, cheap to make and JSON-able: a run is resumed only on equal ones."""
    return {
        shard.name: f"{shard.size} bytes with {shard.documents} documents"
        + (f", {shard.file.version}" if shard.file.version else "")
        for shard in shards
    }


def open_shard(file: ShardFile | Path) -> Shard:
    """Reads a shard's footer. Raises UserError if it is broken, has no `text` column of strings, or counts a null."""
    file = LocalFile.at(file) if isinstance(file, Path) else file
    try:
        metadata = _footer(file)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.location}: not a whole Parquet file ({first_line(error)}); fetch or write it "
                        "again") from error  # fmt: skip
    if COLUMN not in schema.names:
        raise UserError(f"{file.location}: no column {COLUMN!r} (there are {', '.join(schema.names)}); rename the one "
                        "with text")  # fmt: skip
    kind = schema.field(COLUMN).type
    if not _is_text(kind):
        raise UserError(f"{file.location}: column {COLUMN!r} holds {kind}, not strings; write it as strings")
    shard = Shard(file, tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))
    if file.remote and max(shard.row_groups, default=0) > LARGEST_REMOTE_GROUP:
        raise UserError(f"{file.location}: a row group of {max(shard.row_groups)} documents, too large to be read over "
                        f"the network again and again (at most {LARGEST_REMOTE_GROUP}); `vnc prepare` makes local "
                        "shards of it")  # fmt: skip
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == COLUMN)
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(leaf).statistics
        if statistics is not None and statistics.has_null_count and statistics.null_count:
            read_texts(shard, group)  # to name the row
    return shard


def read_texts(shard: Shard | Path, group: int, first: int = 0, stop: int | None = None) -> list[str]:
    """The documents `first` to `stop` of a row group. Raises UserError naming file, row group and, if known, row.

    Threads may call it at once. The row group is decoded whole and kept for a while, see recent.py.
    """
    shard = open_shard(shard) if isinstance(shard, Path) else shard
    column = RECENT.get((shard.file, group), lambda: _decode(shard.file, group))[first:stop]
    where = f"{shard}, row group {group}"
    if column.null_count:
        row = next(row for row, value in enumerate(column, start=first) if not value.is_valid)
        raise UserError(f"{where}, row {row}: the document is null; drop the row, or write an empty text")
    try:
        texts: list[str] = column.to_pylist()
    except UnicodeDecodeError as error:
        row = next(row for row, value in enumerate(column, start=first) if not _decodes(value))
        raise UserError(f"{where}, row {row}: the document is not UTF-8 ({error.reason}); re-encode it") from error
    return texts


def _decode(file: ShardFile, group: int) -> tuple[pa.ChunkedArray, int]:
    """The text column of a row group, and its bytes in memory."""
    metadata = _footer(file)

    def column(source: Any) -> pa.ChunkedArray:
        parquet = pq.ParquetFile(source, metadata=metadata, page_checksum_verification=True)
        return parquet.read_row_group(group, columns=[COLUMN]).column(COLUMN)

    try:
        texts = file.read(f"row group {group}", column)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.location}, row group {group}: cannot be read ({first_line(error)}); fetch or write the "
                        "file again") from error  # fmt: skip
    return texts, texts.nbytes


def _footer(file: ShardFile) -> pq.FileMetaData:
    def read() -> tuple[pq.FileMetaData, int]:
        metadata = file.read("footer", pq.read_metadata)
        return metadata, 4 * metadata.serialized_size  # decoded, it is a few times as large

    return RECENT.get((file, "footer"), read)


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


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
