"""Bytes kept on disk under a cap, so that what came over the network once need not come again.

Any number of processes may use one folder. An entry is written beside its place, flushed and renamed, and it begins
with its SHA-256: one that was damaged later is dropped, never handed out. The file `total` holds how many bytes the
entries take, at least: it is raised before an entry appears, under a lock, and it is counted anew when it passes the
cap, at which the entries used longest ago go. So the cap holds at every moment and nobody counts files for every entry.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vnc.errors import UserError

ENTRY, PART = ".range", ".part"
KEPT = 0.9  # of the cap, when entries have to go: then it is some time until they have to go again
ABANDONED_SECONDS = 3600  # a .part file this old was left by a process that was killed
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class DiskCache:
    """Bytes by key, in a folder. `max_bytes` bounds the sizes of the entries' files together."""

    folder: Path
    max_bytes: int

    @classmethod
    def at(cls, folder: str | Path, max_bytes: int) -> DiskCache:
        """Makes the folder if need be. Raises UserError where that cannot be."""
        if max_bytes < 0:
            raise UserError(f"{folder}: a cache of {max_bytes} bytes; give 0 or more")
        cache = cls(Path(folder), max_bytes)
        try:
            cache.folder.mkdir(parents=True, exist_ok=True)
            with cache._total():
                pass  # it can be written
        except OSError as error:
            raise UserError(f"{folder}: cannot keep a cache there ({error.strerror}); name another folder") from error
        return cache

    def get(self, key: str) -> bytes | None:
        """What was put under `key`, unless it has gone since."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        data = content[_DIGEST:]
        with suppress(OSError):  # another process may have dropped it meanwhile
            if content[:_DIGEST] != _digest(key, data):
                path.unlink()
                return None
            os.utime(path)  # the order in which entries go
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keeps `data` if it fits. A disk that is full or gone is no error, since the cache only saves time: a warning
        says so, and the data are fetched again when they are needed."""
        size = _DIGEST + len(data)
        if size > self.max_bytes:
            return
        path = self._path(key)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
        try:
            try:
                with part.open("wb") as file:
                    file.write(_digest(key, data))
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                with self._total() as total:
                    total.write(self._with_room(total.read(), size) + size)
                    part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            warnings.warn(f"{self.folder}: cannot keep what was fetched ({error.strerror}); going on", stacklevel=2)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}{ENTRY}"

    @contextmanager
    def _total(self) -> Iterator[_Total]:
        """The file `total`, this thread's alone for the time being; the lock ends with the process that holds it."""
        with open(os.open(self.folder / "total", os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield _Total(file)

    def _with_room(self, total: int | None, size: int) -> int:
        """What the entries take once there is room for `size` bytes more. Nothing to do as long as `total` allows."""
        if total is not None and total + size <= self.max_bytes:
            return total
        entries = []
        for found in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                stat = found.stat()
                if found.name.endswith(ENTRY):
                    entries.append((stat.st_mtime_ns, found.name, stat.st_size))
                elif found.name.endswith(PART) and stat.st_mtime < time.time() - ABANDONED_SECONDS:
                    os.unlink(found.path)
        taken = sum(size for _, _, size in entries)
        allowed = self.max_bytes - size
        if taken > allowed:
            allowed = max(0, int(KEPT * self.max_bytes) - size)
        for _, name, freed in sorted(entries):
            if taken <= allowed:
                break
            (self.folder / name).unlink(missing_ok=True)
            taken -= freed
        return taken


class _Total:
    """How many bytes the entries take, in an open file of decimal digits."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self) -> int | None:
        """None where nothing sensible is written: count the entries."""
        digits = self._file.read()
        return int(digits) if digits.isdigit() else None

    def write(self, total: int) -> None:
        # Twenty digits take the place of twenty: there is never more or less in the file, killed or not.
        self._file.seek(0)
        self._file.write(b"%020d" % total)
        self._file.flush()


def _digest(key: str, data: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(data)
    return digest.digest()
