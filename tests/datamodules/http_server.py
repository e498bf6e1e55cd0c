"""Servers on 127.0.0.1 that hold files in memory, note what they send, and misbehave on request: plain HTTP with Range
requests, as much of S3 as Arrow asks for, and as much of the Hugging Face Hub as its file system asks for."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Fault = str
"""500, 404, 403; cut: the connection ends halfway; short, shorter: all but the last byte, or half of the bytes,
declared as all; damaged: one bit differs; slow: half a second without a byte; whole: the Range request is not heeded;
shifted: bytes from another place."""


@dataclass(frozen=True)
class Sent:
    """One answer."""

    method: str
    path: str
    range: str
    bytes: int
    """Of the body."""
    fault: str
    authorization: str


class FileServer:
    """`with FileServer({"data/a.parquet": content}) as server:` serves `server.url + "/data/a.parquet"`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = dict(files)
        self.log: list[Sent] = []
        self.faults: list[Fault] = []
        """Each spoils one answer that holds bytes of a Parquet file, in this order."""
        self.choose: Callable[[str], Fault] = lambda asked: ""
        """Which fault an answer has when `faults` is empty, from its "name range"."""
        self.etags = True
        self.busiest = 0
        """The most requests that were being answered at one time."""
        self._busy = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Any:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are written apart; together they would wait 40 ms

            def do_GET(self) -> None:
                with server._lock:
                    server._busy += 1
                    server.busiest = max(server.busiest, server._busy)
                try:
                    server.answer(self)
                finally:
                    with server._lock:
                        server._busy -= 1

            do_HEAD = do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, address: Any) -> None:
                pass  # clients that are killed or give up

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.host = f"127.0.0.1:{self._http.server_address[1]}"
        self.url = f"http://{self.host}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Every request comes here."""
        self.send_file(request, unquote(urlsplit(request.path).path).lstrip("/"))

    def sent(self, path: str = "") -> list[Sent]:
        """The answers about files whose path ends in `path`."""
        with self._lock:
            return [each for each in self.log if each.path.endswith(path)]

    def send_file(self, request: BaseHTTPRequestHandler, name: str, headers: dict[str, str] | None = None) -> None:
        content = self.files.get(name)
        if content is None:
            return self.send(request, 404, b"")
        headers = {"Accept-Ranges": "bytes"} | (headers or {})
        if self.etags:
            headers |= {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "Last-Modified": LONG_AGO}
        asked, fault = request.headers.get("Range"), ""
        if request.command == "GET" and name.endswith(".parquet"):
            with self._lock:
                fault = self.faults.pop(0) if self.faults else self.choose(f"{name} {asked}")
        if asked is None or fault == "whole":
            return self.send(request, 200, content, headers, fault)
        first, last = asked.removeprefix("bytes=").split("-")
        start, end = int(first), min(int(last) + 1, len(content))
        if start >= len(content):
            return self.send(request, 416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
        body = content[start:end]
        if fault in ("short", "shorter"):
            body = body[: len(body) - 1 if fault == "short" else len(body) // 2]
        elif fault == "damaged":
            body = bytes([body[0] ^ 1]) + body[1:]
        elif fault == "shifted":
            start = max(0, start - 1)
            body = content[start : end - 1]
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self.send(request, 206, body, headers, fault)

    def send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        fault: Fault = "",
    ) -> None:
        if fault.isdigit():
            status, body, headers = int(fault), b"<html>a page about an error</html>", {}
        if fault == "slow":
            time.sleep(0.5)
        sent = b"" if request.command == "HEAD" else body[: len(body) // 2] if fault == "cut" else body
        with self._lock:
            self.log.append(
                Sent(
                    request.command,
                    unquote(urlsplit(request.path).path),
                    request.headers.get("Range", ""),
                    len(sent),
                    fault,
                    request.headers.get("Authorization", ""),
                )
            )
        request.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            request.send_header(key, value)
        request.end_headers()
        try:
            request.wfile.write(sent)
            if fault == "cut":
                request.close_connection = True
        except OSError:
            request.close_connection = True  # the client has gone


class S3Server(FileServer):
    """Files are bucket/key."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path).strip("/")
        if "list-type" not in asked:
            return self.send_file(request, path)
        keys = sorted(name.partition("/")[2] for name in self.files if name.startswith(f"{path}/"))
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.files[f'{path}/{key}'])}</Size>"
            f"<LastModified>2024-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
            if key.startswith(asked.get("prefix", ""))
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{path}</Name><Prefix>{escape(asked.get('prefix', ''))}</Prefix><IsTruncated>false</IsTruncated>"
            f"{found}</ListBucketResult>"
        )
        self.send(request, 200, text.encode(), {"Content-Type": "application/xml"})


class HubServer(FileServer):
    """Files are revision/path of one data set; `heads` names the commit that a branch is at."""

    def __init__(self, files: dict[str, bytes], repository: str = "someone/texts") -> None:
        super().__init__(files)
        self.repository = repository
        self.heads = {"main": "a" * 40}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        api, resolve = f"/api/datasets/{self.repository}", f"/datasets/{self.repository}/resolve/"
        if path.startswith(resolve):
            return self.send_file(request, path.removeprefix(resolve))
        if path == api or path.startswith(f"{api}/revision/"):
            revision = path.removeprefix(api).removeprefix("/revision/") or "main"
            commit = self.heads.get(revision, revision if revision in self.heads.values() else None)
            if commit is None:
                return self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            about = {"id": self.repository, "sha": commit, "private": False, "disabled": False, "gated": False}
            return self.send_json(request, about | {"downloads": 0, "likes": 0, "tags": [], "siblings": []})
        if path.startswith(f"{api}/tree/"):
            commit, _, folder = path.removeprefix(f"{api}/tree/").partition("/")
            inside = [name.removeprefix(f"{commit}/") for name in self.files if name.startswith(f"{commit}/{folder}")]
            return self.send_json(request, [self._about(commit, name) for name in inside])
        self.send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def send_json(self, request: BaseHTTPRequestHandler, value: Any) -> None:
        self.send(request, 200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _about(self, commit: str, name: str) -> dict[str, Any]:
        content = self.files[f"{commit}/{name}"]
        large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return {"type": "file", "oid": "b" * 40, "size": len(content), "path": name, "lfs": large}


LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"
