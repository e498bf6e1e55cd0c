"""What the reader knows of a shard before it opens it: its name, its size, what tells one version of it from another,
and how to read it. Here are the files of a local folder; those behind a URL are in remote.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from datamodules.manifest import check_files, read_manifest
from vnc.errors import UserError

T = TypeVar("T")


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
    """The files *.parquet that lie in `folder` itself, those beginning with a dot left out. Raises UserError if there
    are none, and where they are not those of the manifest that `vnc prepare` left beside them."""
    if not folder.exists():
        raise UserError(f"{folder}: no such data folder; `vnc prepare` makes one, or name another with --data.data_dir")
    if not folder.is_dir():
        raise UserError(f"{folder}: a file; --data.data_dir takes the folder that holds the Parquet shards")
    paths = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{folder}: no Parquet shards (*.parquet) in it; `vnc prepare` writes them, or name another "
                        "folder with --data.data_dir")  # fmt: skip
    manifest = read_manifest(folder)
    if manifest is None:
        return tuple(map(LocalFile.at, paths))
    check_files(folder, manifest)
    versions = {shard.name: shard.version for shard in manifest.shards}
    return tuple(LocalFile.at(path, versions[path.name]) for path in paths)
