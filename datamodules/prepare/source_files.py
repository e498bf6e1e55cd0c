"""The files that documents come from: what a source is to the passes, and the sources that lie on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from vnc.errors import UserError

TEXT_KINDS = (".txt", ".md", ".jsonl", ".csv")
ALL_KINDS = (*TEXT_KINDS, ".parquet")
TEXT_RATIO = 0.45  # bytes of English in a zstd Parquet file, of its bytes as text
GZIP_RATIO = 1.1
_NAMED = 5  # of the files that are passed over


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    name: str
    """Relative to what the user named; goes into the `source` column."""
    shown: str
    """What to call it in messages."""
    size: int
    """Bytes."""
    version: str
    """Differs when the content does: a time of change, or a checksum."""
    estimate: int
    """Bytes that its text will take in a zstd Parquet file, roughly."""


class Source(Protocol):
    """Files in a fixed order, each of which becomes a local file when it is needed."""

    @property
    def name(self) -> str:
        """For the manifest."""
        ...

    @property
    def files(self) -> tuple[SourceFile, ...]: ...

    @property
    def scratch(self) -> int:
        """Bytes of disk that fetching takes at a time."""
        ...

    def fetch(self, file: SourceFile, scratch: Path, reached: Callable[[int], None]) -> Path:
        """The file, downloaded below `scratch` if need be; `reached` is told how many bytes of it are there."""
        ...

    def release(self, file: SourceFile, scratch: Path) -> None:
        """The file is not needed again, not even after a crash."""
        ...


@dataclass(frozen=True)
class LocalFiles:
    """Files of this machine."""

    name: str
    files: tuple[SourceFile, ...]
    passed_over: tuple[str, ...] = ()
    """Files in the folders whose kind is unknown."""
    scratch: int = field(default=0, init=False)

    def fetch(self, file: SourceFile, scratch: Path, reached: Callable[[int], None]) -> Path:
        return Path(file.shown)

    def release(self, file: SourceFile, scratch: Path) -> None:
        pass


def find_local(source: str, out: Path, kinds: tuple[str, ...], column: str, max_files: int | None = None) -> LocalFiles:
    """The files that `source` names: paths of files and folders, separated by commas.

    Folders are walked to the bottom in the order of names, without hidden files and without `out`. UserError when
    something is not there, of an unknown kind, given twice, or when no file is left."""
    found: list[tuple[str, Path]] = []
    passed_over: list[str] = []
    for path in _paths(source):
        if path.is_dir():
            inside = list(_walk(path, out))
            found += [(file.relative_to(path).as_posix(), file) for file in inside if kind_of(file) in kinds]
            passed_over += [str(file) for file in inside if kind_of(file) not in kinds]
        elif not path.exists():
            raise UserError(f"--source {path}: no such file or folder")
        elif kind_of(path) not in kinds:
            raise UserError(f"--source {path}: not one of the kinds that can be read ({', '.join(kinds)}); convert it")
        else:
            found.append((path.name, path))
    if not found:
        more = f" ({len(passed_over)} of other kinds, such as {passed_over[0]})" if passed_over else ""
        raise UserError(f"--source {source}: no files of the kinds {', '.join(kinds)} in it{more}")
    if passed_over:
        more = ", ..." if len(passed_over) > _NAMED else ""
        print(f"passed over {len(passed_over):,} files of unknown kinds: {', '.join(passed_over[:_NAMED])}{more}",
              file=sys.stderr)  # fmt: skip
    _refuse_twins(path for _, path in found)
    files = tuple(_describe(name, path, column) for name, path in found[:max_files])
    return LocalFiles(source, files, tuple(passed_over))


def kind_of(path: Path) -> str:
    """The file's suffix in small letters; that before .gz for what is packed."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        inner = Path(path.stem).suffix.lower()
        return inner if inner in TEXT_KINDS else suffix
    return suffix


def _paths(source: str) -> list[Path]:
    if Path(source).exists() and source.strip():
        return [Path(source)]
    paths = [Path(part.strip()) for part in source.split(",") if part.strip()]
    if not paths:
        raise UserError("--source: names no file or folder")
    return paths


def _walk(folder: Path, out: Path) -> Iterator[Path]:
    avoid = out.resolve()
    found: list[Path] = []
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and (Path(here) / name).resolve() != avoid]
        found += [Path(here) / name for name in names if not name.startswith(".")]
    return iter(sorted((path for path in found if path.is_file()), key=lambda path: path.relative_to(folder).parts))


def _refuse_twins(paths: Iterable[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            raise UserError(f"--source: {path} is given twice (also as {seen[real]}); name each file once")
        seen[real] = path


def _describe(name: str, path: Path, column: str) -> SourceFile:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() == ".gz":
        estimate = int(status.st_size * GZIP_RATIO)
    elif kind_of(path) == ".parquet":
        estimate = _column_bytes(path, column, status.st_size)
    else:
        estimate = int(status.st_size * TEXT_RATIO)
    return SourceFile(name, str(path), status.st_size, f"{status.st_size} bytes of {status.st_mtime_ns}", estimate)


def _column_bytes(path: Path, column: str, size: int) -> int:
    """What one column takes in a Parquet file; all of it where that is unknown."""
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            chunks = [(group, leaf) for group in range(metadata.num_row_groups) for leaf in range(metadata.num_columns)
                      if metadata.schema.column(leaf).path == column]  # fmt: skip
            pages = [metadata.row_group(group).column(leaf) for group, leaf in chunks]
            return sum(
                min(page.total_compressed_size, int(page.total_uncompressed_size * TEXT_RATIO)) for page in pages
            )
    except (pa.ArrowException, OSError):
        return size  # reading it will say what is wrong
