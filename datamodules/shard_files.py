"""What the reader knows of a shard before it opens it: its name, its size, what tells one version of it from another,
and how to read it. Here are the files of a local folder; those behind a URL are in remote.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from vnc.errors import UserError

T = TypeVar("T")

MANIFEST = "manifest.json"  # written by `vnc prepare`


class ShardFile(Protocol):
    """One Parquet file in one version. Hashable, and good to send to other processes."""

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        ...

    @property
    def location(self) -> str:
        """Path or URL without passwords, for messages."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def version(self) -> str:
        """What the content goes by beside its size ("sha256 ...", "etag ..."); empty where nothing is known."""
        ...

    @property
    def remote(self) -> bool: ...

    def read(self, what: str, use: Callable[[Any], T]) -> T:
        """What `use` makes of the opened file, which pyarrow can read. `what` names the part, for messages.

        Raises UserError if the file is not to be had or is no longer this version, and whatever `use` raises.
        """
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path
    size: int
    stamp: tuple[int, int]
    """inode and time of the last change: with the size, they tell whether the file is the one that was listed."""
    version: str = ""
    remote = False

    @classmethod
    def at(cls, path: Path, version: str = "") -> LocalFile:
        """Raises UserError where there is no such file."""
        try:
            stat = path.stat()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); fetch or write it again") from error
        return cls(path, stat.st_size, (stat.st_ino, stat.st_mtime_ns), version)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def location(self) -> str:
        return str(self.path)

    def read(self, what: str, use: Callable[[Any], T]) -> T:
        try:
            with pa.OSFile(str(self.path)) as file:
                return use(file)
        finally:
            if LocalFile.at(self.path, self.version) != self:
                raise UserError(f"{self.path}: changed while it was in use; start again when it is complete")


def find_local(folder: Path) -> tuple[LocalFile, ...]:
    """The files *.parquet that lie in `folder` itself, those beginning with a dot left out."""
    if not folder.exists():
        raise UserError(f"{folder}: no such data folder; `vnc prepare` makes one, or name another with --data.data_dir")
    if not folder.is_dir():
        raise UserError(f"{folder}: a file; --data.data_dir takes the folder that holds the Parquet shards")
    paths = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder}: no Parquet shards (*.parquet) in it; `vnc prepare` writes them, or name another "
                        "folder with --data.data_dir")  # fmt: skip
    manifest = folder / MANIFEST
    listed = parse_manifest(manifest.read_bytes(), str(manifest)) if manifest.is_file() else {}
    return tuple(_local(path, listed.get(path.name)) for path in paths)


def parse_manifest(content: bytes, location: str) -> dict[str, Listed]:
    """What `vnc prepare` wrote about the shards beside it, by name. Raises UserError if it did not write this."""
    try:
        shards = json.loads(content)["shards"]
        return {str(shard["name"]): Listed(int(shard["bytes"]), str(shard["sha256"])) for shard in shards}
    except (ValueError, TypeError, KeyError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{location}: not a manifest of shards ({reason}); `vnc prepare` writes one") from error


@dataclass(frozen=True)
class Listed:
    """One line of a manifest."""

    size: int
    """Bytes."""
    sha256: str

    @property
    def version(self) -> str:
        return f"sha256 {self.sha256}"

    def check(self, location: str, size: int) -> None:
        """Raises UserError where the file at `location` has another size."""
        if size != self.size:
            raise UserError(f"{location}: {size} bytes, but {MANIFEST} beside it says {self.size}; fetch or write the "
                            "file again")  # fmt: skip


def _local(path: Path, listed: Listed | None) -> LocalFile:
    file = LocalFile.at(path)
    if listed is None:
        return file
    listed.check(file.location, file.size)
    return replace(file, version=listed.version)
