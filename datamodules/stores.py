"""Servers that hold files: the Hugging Face Hub, S3, any HTTP server with Range requests, whatever else fsspec knows.

A store answers two questions: how large is a file and which version is it, and what are these bytes of it. All but
HTTP also say which files lie in a folder. It asks once and passes on what goes wrong; remote.py repeats and explains.
A store is only the settings: connections belong to the process that opened them, so that stores can be sent to others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa

from vnc.errors import UserError

CONNECT_SECONDS = 15.0
STALL_SECONDS = 30.0  # without a byte
REQUEST_SECONDS = 300.0  # for one answer, which is a few megabytes
VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")  # what fsspec's file systems call it


@dataclass(frozen=True)
class Found:
    """A file as the server describes it."""

    size: int
    """Bytes."""
    tag: str
    """What changes with the content: "etag ...", "modified ...", "sha256 ..."; empty where the server says nothing."""


class Store(Protocol):
    """Threads may use it at once."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a request may raise for reasons that lie outside of this program."""
        ...

    def stat(self, path: str) -> Found: ...

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, Found | None]:
        """Some bytes of a file (perhaps fewer, if the answer broke off), and whose they are if the answer says so."""
        ...


@dataclass(frozen=True)
class HttpStore:
    """HTTP(S) with Range requests, through fsspec's session. Paths are URLs. Every answer says which version it is of,
    so no further request is needed to know that the bytes are from one version."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        import aiohttp

        return OSError, aiohttp.ClientError

    def stat(self, path: str) -> Found:
        return self.read(path, 0, 1)[1]

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, Found]:
        async def read(client: Any) -> tuple[bytes, Found]:
            session = await client.set_session()
            # Compressed on the way, a range would be one of the compressed bytes.
            headers = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
            async with session.get(client.encode_url(path), headers=headers) as answer:
                if answer.status == 416:  # the file ends before
                    return b"", Found(_total(answer.headers), _tag(answer.headers))
                answer.raise_for_status()
                if answer.status != 206:
                    raise UserError(f"{public(path)}: the server does not answer Range requests, so no part is to be "
                                    "had without the rest; download the shards and name their folder")  # fmt: skip
                content = answer.headers.get("Content-Range", "")
                if not content.startswith(f"bytes {offset}-"):
                    raise OSError(f"asked for bytes from {offset} on, the answer holds {content or 'unknown ones'}")
                return await answer.read(), Found(_total(answer.headers), _tag(answer.headers))

        return cast(tuple[bytes, Found], _run(read))

    def whole(self, path: str) -> bytes:
        """All of a small file."""

        async def read(client: Any) -> bytes:
            session = await client.set_session()
            async with session.get(client.encode_url(path)) as answer:
                answer.raise_for_status()
                return cast(bytes, await answer.read())

        return cast(bytes, _run(read))


def _run(read: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Runs a coroutine with fsspec's HTTP client on the thread that fsspec keeps for it in this process."""
    import aiohttp
    import fsspec  # type: ignore[import-untyped]
    from fsspec.asyn import sync  # type: ignore[import-untyped]

    timeout = aiohttp.ClientTimeout(REQUEST_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS)
    client = fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True})
    return sync(client.loop, read, client)


@dataclass(frozen=True)
class S3Store:
    """S3 and what speaks its protocol, through Arrow. `url` is s3://bucket/prefix?options, paths are bucket/key.

    The options are those of `pyarrow.fs.FileSystem.from_uri`: region, scheme, endpoint_override; credentials come from
    the environment as for every AWS program, or from the URL (s3://anonymous@bucket/... for public buckets).
    """

    url: str
    errors = (OSError,)

    def find(self, folder: str) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        found = self._open().get_file_info(FileSelector(folder, recursive=True))
        return [each.path for each in found if each.type == FileType.File]

    def stat(self, path: str) -> Found:
        with self._open().open_input_file(path) as file:
            headers = {key: value.decode() for key, value in (file.metadata() or {}).items()}
            return Found(file.size(), _tag(headers))

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, None]:
        with self._open().open_input_file(path) as file:
            # Arrow says that it has read `length` bytes even where fewer came, and leaves the rest of the memory as it
            # was. So its last byte is set to something else before, and if that is still there, to something else yet.
            data = bytearray(length)
            for before in (0x5A, 0xA5):
                data[-1] = before
                file.seek(offset)
                if file.readinto(data) == length and data[-1] != before:
                    return bytes(data), None
        raise OSError(f"fewer than {length} bytes came")

    def folder(self) -> str:
        """bucket/prefix. Raises UserError for options that Arrow does not know."""
        return _s3(self.url, os.getpid())[1].rstrip("/")

    def _open(self) -> Any:
        return _s3(self.url, os.getpid())[0]


@lru_cache(maxsize=8)
def _s3(url: str, process: int) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    try:
        return cast(tuple[Any, str], FileSystem.from_uri(url))
    except pa.ArrowInvalid as error:
        raise UserError(f"{public(url)}: not an address of S3 ({error}); give s3://BUCKET/FOLDER, if need be with "
                        "?region=... or ?endpoint_override=HOST:PORT&scheme=http")from error  # fmt: skip


@dataclass(frozen=True)
class HubStore:
    """The Hugging Face Hub. Paths hold a commit, so what they name never changes."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the HTTP client that it uses

        return OSError, HTTPError

    def pinned(self, folder: str) -> str:
        """datasets/OWNER/NAME@COMMIT/FOLDER for the folder of a hf:// URL: the commit that its revision is at now."""
        hub = _hub(os.getpid())
        place = hub.resolve_path(folder)
        if not hasattr(place, "repo_id"):
            raise UserError(f"{folder}: not in a repository; give hf://datasets/OWNER/NAME/FOLDER")
        from huggingface_hub import HfApi

        found = HfApi(endpoint=hub.endpoint).repo_info(
            place.repo_id, repo_type=place.repo_type, revision=place.revision, timeout=CONNECT_SECONDS
        )
        kind = f"{place.repo_type}s/" if place.repo_type != "model" else ""
        return f"{kind}{place.repo_id}@{found.sha}/{place.path_in_repo}".rstrip("/")

    def find(self, folder: str) -> list[str]:
        return cast(list[str], _hub(os.getpid()).find(folder))

    def stat(self, path: str) -> Found:
        about = _hub(os.getpid()).info(path)
        large = about.get("lfs")
        tag = f"sha256 {large['sha256']}" if large else f"blob {about['blob_id']}"
        return Found(about["size"], tag)

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, Found]:
        return _piece(_hub(os.getpid()), path, offset, length), self.stat(path)


@lru_cache(maxsize=2)
def _hub(process: int) -> Any:
    from huggingface_hub import HfFileSystem

    # One for all threads: by default each thread has its own and lists every folder again.
    return HfFileSystem(skip_instance_cache=True)


@dataclass(frozen=True)
class FsspecStore:
    """Any other protocol that fsspec has an implementation of, such as memory:// and file://."""

    protocol: str
    errors = (OSError,)

    def folder(self, address: str) -> str:
        """The folder as the paths of its files begin."""
        return cast(str, self._open()._strip_protocol(address))

    def find(self, folder: str) -> list[str]:
        return cast(list[str], self._open().find(folder))

    def stat(self, path: str) -> Found:
        system = self._open()
        system.invalidate_cache()
        about = system.info(path)
        known = next((key for key in VERSION_KEYS if about.get(key)), "")
        return Found(about["size"], f"{known.lower()} {about[known]}" if known else "")

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, None]:
        return _piece(self._open(), path, offset, length), None

    def _open(self) -> Any:
        import fsspec

        try:
            return fsspec.filesystem(self.protocol)
        except (ValueError, ImportError) as error:
            raise UserError(f"{self.protocol}://: cannot be read ({error}); use hf://, s3://, https:// or a local "
                            "folder") from error  # fmt: skip


def public(url: str) -> str:
    """The URL without what may be secret: user, password, query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _piece(system: Any, path: str, offset: int, length: int) -> bytes:
    with system.open(path, "rb", cache_type="none") as file:  # no read-ahead of its own
        file.seek(offset)
        return cast(bytes, file.read(length))


def _total(headers: Mapping[str, str]) -> int:
    total = headers.get("Content-Range", "").rpartition("/")[2]
    if not total.isdigit():
        raise OSError("the answer does not say how large the file is")
    return int(total)


def _tag(headers: Mapping[str, str]) -> str:
    if headers.get("ETag"):
        return "etag " + headers["ETag"].removeprefix("W/").strip('"')
    return f"modified {headers['Last-Modified']}" if headers.get("Last-Modified") else ""
