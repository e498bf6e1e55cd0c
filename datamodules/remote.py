"""Shards behind a URL: listed, read by pieces, and never wrong.

A request that fails is repeated with growing pauses. What pyarrow makes of the bytes is used only if all of them came,
and from the version of the file that was listed; only then are they kept on disk. So an answer that breaks off, an
error page, or a file exchanged on the server can cost time or end the run, but not change a text.
"""

from __future__ import annotations

import io
import itertools
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow as pa

from datamodules.disk_cache import DiskCache
from datamodules.in_parallel import in_parallel
from datamodules.manifest import MANIFEST, ShardEntry, parse_manifest
from datamodules.stores import Found, FsspecStore, HttpStore, HubStore, S3Store, Store, public
from vnc.errors import UserError

T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds after each failed attempt; after one more the error is final."""
PATIENCE_SECONDS = 120.0
"""The error is final as well when attempts have taken so long: each may wait for a time-out, and the Hub's and Arrow's
clients ask several times themselves."""
MOST_NAMES = 100_000  # that braces may stand for
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class RemoteFile:
    """One file on a server, in the version that was found when it was listed."""

    store: Store
    path: str
    """What the store calls it."""
    location: str
    found: Found
    sha256: str = ""
    """From a manifest, if there is one."""
    cache: DiskCache | None = field(default=None, compare=False)
    remote = True

    @property
    def name(self) -> str:
        return file_name(self.location)

    @property
    def size(self) -> int:
        return self.found.size

    @property
    def version(self) -> str:
        return f"sha256 {self.sha256}" if self.sha256 else self.found.tag

    def read(self, what: str, use: Callable[[Any], T]) -> T:
        where = f"{self.location}, {what}"
        with suppress(_Undecodable):  # perhaps damaged on the way, which a second transfer shows
            return persist(where, self.store, partial(self._attempt, use, self.cache))
        try:
            return persist(where, self.store, partial(self._attempt, use, None))
        except _Undecodable as error:
            raise error.reason from None

    def _attempt(self, use: Callable[[Any], T], cache: DiskCache | None) -> T:
        pieces = _Pieces(self, cache)
        try:
            result = use(pieces)
        except (pa.ArrowException, OSError) as error:
            if error is pieces.failure:
                raise
            self._check(pieces)
            raise _Undecodable(error) from error
        self._check(pieces)
        pieces.keep()
        return result

    def _check(self, pieces: _Pieces) -> None:
        """Raises UserError where the pieces were fetched from another version, or may have been."""
        for found in pieces.seen:
            found = found or self.store.stat(self.path)
            if found != self.found:
                raise UserError(f"{self.location}: changed on the server while in use (from {_words(self.found)} "
                                f"to {_words(found)}); start again to take it as it is now")  # fmt: skip


class _Undecodable(Exception):
    """All bytes came, but they are not Parquet."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class _Pieces(io.RawIOBase):
    """A file for pyarrow that fetches just the ranges that are read."""

    def __init__(self, file: RemoteFile, cache: DiskCache | None) -> None:
        self._file, self._cache, self._position = file, cache, 0
        self._fetched: dict[str, bytes] = {}
        self.seen: set[Found | None] = set()
        """What the answers said of the file; None for those that said nothing."""
        self.failure: Exception | None = None
        """Why a range could not be fetched."""

    def read(self, size: int = -1) -> bytes:
        length = self._file.size - self._position
        length = max(0, length if size < 0 else min(size, length))
        data = self._range(self._position, length) if length else b""
        self._position += length
        return data

    def keep(self) -> None:
        """Puts what was fetched into the cache: the caller has seen that it is good."""
        # Without a tag, a new version of a file could not be told from the old one.
        if self._cache is not None and self._file.found.tag:
            for key, data in self._fetched.items():
                self._cache.put(key, data)

    def _range(self, offset: int, length: int) -> bytes:
        found = self._file.found
        key = f"{self._file.location} {found.size} {found.tag} {self._file.sha256} {offset} {length}"
        kept = self._cache.get(key) if self._cache is not None else None
        if kept is not None:
            return kept
        try:
            data, seen = self._file.store.read(self._file.path, offset, length)
            if len(data) != length and (seen is None or seen == found):
                raise OSError(f"{len(data)} of {length} bytes came")
        except Exception as error:
            self.failure = error
            raise
        self.seen.add(seen)
        self._fetched[key] = data
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._file.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def persist(where: str, store: Store, ask: Callable[[], T]) -> T:
    """What `ask` returns, asked again after each of WAITS if it fails. Raises UserError, naming `where`, after the last
    time, or at once where the answer is final: there is no such file, or no permission to read it."""
    begun = time.monotonic()
    for attempt in itertools.count(1):
        try:
            return ask()
        except store.errors as error:
            reason = _reason(error)
            if _is_final(error):
                raise UserError(f"{where}: not to be had ({reason}); check the address and who may read it") from error
            if attempt > len(WAITS) or time.monotonic() - begun > PATIENCE_SECONDS:
                raise UserError(f"{where}: {attempt} attempts failed, the last with {reason}; check the connection and "
                                "the server, then start again, or prepare the data locally with `vnc "
                                "prepare`") from error  # fmt: skip
            if attempt > 1:
                warnings.warn(f"{where}: attempt {attempt} failed ({reason}); trying again", stacklevel=2)
            time.sleep(WAITS[attempt - 1])
    raise AssertionError  # count never ends


def find_remote(url: str, cache: DiskCache | None = None, first: int | None = None) -> tuple[RemoteFile, ...]:
    """The Parquet files of a URL in order of name, or the `first` so many of them. Raises UserError if there are none.

    http(s):// takes file names with {00..19} or {a,b}, or a folder with a manifest; all others take a folder.
    """
    store, places = _places(url)
    twice = [name for name, times in Counter(file_name(location) for _, location, _ in places).items() if times > 1]
    if twice:
        raise UserError(f"{public(url)}: {twice[0]} lies there more than once, in different folders; give one of them")
    places = sorted(places, key=lambda place: file_name(place[1]))[:first]
    if not places:
        raise UserError(f"{public(url)}: no Parquet shards (*.parquet) there; check the address, or give another with "
                        "--data.data_dir")  # fmt: skip

    def open_(place: tuple[str, str, ShardEntry | None]) -> RemoteFile:
        path, location, listed = place
        found = persist(location, store, lambda: store.stat(path))
        if listed is not None:
            listed.check_size(location, found.size)
        return RemoteFile(store, path, location, found, listed.sha256 if listed else "", cache)

    return tuple(in_parallel("looking for shards", open_, places))


def file_name(location: str) -> str:
    return unquote(location).rpartition("/")[2]


def expand_braces(pattern: str) -> list[str]:
    """The names that `pattern` stands for: {00..12} counts, with as many digits as are written; {a,b} lists. Raises
    UserError for braces that hold neither, and for more than MOST_NAMES names."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    counted = _RANGE.fullmatch(braces[1])
    if counted:
        low, high = int(counted[1]), int(counted[2])
        if not low <= high < low + MOST_NAMES:
            raise UserError(f"{{{braces[1]}}}: counts from {low} to {high}; give the smaller number first, and at most "
                            f"{MOST_NAMES} names")  # fmt: skip
        choices = [f"{number:0{len(counted[1])}d}" for number in range(low, high + 1)]
    elif "," in braces[1]:
        choices = braces[1].split(",")
    else:
        raise UserError(f"{braces[0]}: braces take a range such as {{00000..00019}}, or a list such as {{a,b}}")
    rest = expand_braces(pattern[braces.end() :])
    if len(choices) * len(rest) > MOST_NAMES:
        raise UserError(f"{braces[0]}: stands for more than {MOST_NAMES} names")
    return [pattern[: braces.start()] + choice + end for choice in choices for end in rest]


def _places(url: str) -> tuple[Store, list[tuple[str, str, ShardEntry | None]]]:
    """The store, and of each Parquet file there the path, the location and what a manifest says of it."""
    protocol, _, address = url.partition("://")
    address = address.rstrip("/")
    if protocol in ("http", "https"):
        return _http_places(url)
    store: S3Store | HubStore | FsspecStore
    if protocol == "s3":
        store = s3 = S3Store(url)
        folder = persist(public(url), store, s3.folder)
    elif protocol == "hf":
        store = hub = HubStore()
        folder = persist(public(url), store, lambda: hub.pinned(address))
    else:
        store = FsspecStore(protocol)
        folder = store.folder(address)
    paths = persist(public(url), store, lambda: store.find(folder))
    files = [path for path in paths if path.endswith(".parquet") and not file_name(path).startswith(".")]
    base = public(url).rstrip("/")
    return store, [(path, f"{base}/{path.removeprefix(folder).lstrip('/')}", None) for path in files]


def _http_places(url: str) -> tuple[Store, list[tuple[str, str, ShardEntry | None]]]:
    store, urls = HttpStore(), expand_braces(url)
    if all(urlsplit(each).path.endswith(".parquet") for each in urls):
        return store, [(each, public(each), None) for each in urls]
    if len(urls) > 1:
        raise UserError(f"{public(url)}: the names do not end in .parquet")

    def below(name: str) -> str:
        parts = urlsplit(url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    manifest = below(MANIFEST)
    content = persist(f"{public(manifest)}, which lists the shards (or name them: .../shard_{{00000..00019}}.parquet)",
                      store, lambda: store.whole(manifest))  # fmt: skip
    shards = parse_manifest(content, public(manifest)).shards
    return store, [(below(shard.name), public(below(shard.name)), shard) for shard in shards]


def _is_final(error: Exception) -> bool:
    """Whether asking again cannot help."""
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in (408, 425, 429)
    refused = any(word in str(error) for word in ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID"))
    return refused or isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError)


def _status(error: Exception) -> int | None:
    """Of an HTTP answer: aiohttp and the Hub's client keep it in different places."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: Exception) -> str:
    """The error in a few words, without the URL, which may hold a password."""
    status = _status(error)
    if status is not None:
        return f"HTTP status {status}"
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _words(found: Found) -> str:
    return f"{found.size} bytes, {found.tag or 'no etag'}"
