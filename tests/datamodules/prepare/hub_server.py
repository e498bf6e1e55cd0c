"""A small Hub on 127.0.0.1: as much of its protocol as huggingface_hub 2.x uses to list and download dataset files.

Faults are set as `Hub.fault`: a function of (method, path) that returns None, a status to answer with, or "cut" to end
the connection in the middle of the body."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

Fault = Callable[[str, str], "int | str | None"]
Files = dict[str, bytes]

_INFO = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?")
_FILE = re.compile(r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
PAGE = 3  # entries of a listing, so that pages are turned


@dataclass
class Hub:
    """repositories[repo][branch][path] is the content of a file."""

    repositories: dict[str, dict[str, Files]]
    url: str = ""
    fault: Fault = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def files(self, repo: str, revision: str) -> Files | None:
        """Those of a branch, or of the commit that a branch is."""
        branches = self.repositories[repo]
        return next((files for name, files in branches.items() if revision in (name, commit(repo, name))), None)


def commit(repo: str, branch: str) -> str:
    return hashlib.sha1(f"{repo}@{branch}".encode()).hexdigest()


@contextmanager
def running(repositories: dict[str, dict[str, Files]]) -> Iterator[Hub]:
    """A Hub that listens until the context is left."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _answer(self) -> None:
        split = urlsplit(self.path)
        path = split.path
        self.hub.requests.append((self.command, path))
        fault = self.hub.fault(self.command, path)
        if isinstance(fault, int):
            self._send(fault, b'{"error": "made to fail"}')
            return
        if match := _TREE.fullmatch(path):
            self._tree(unquote(match["repo"]), unquote(match["revision"]), unquote(match["folder"] or ""), split.query)
        elif match := _FILE.fullmatch(path):
            self._file(unquote(match["repo"]), unquote(match["revision"]), unquote(match["path"]), fault == "cut")
        elif match := _INFO.fullmatch(path):
            repo, revision = match["repo"], unquote(match["revision"] or "main")
            if self._known(repo, revision):
                self._json({"id": repo, "sha": commit(repo, revision), "siblings": [], "tags": [], "private": False,
                            "downloads": 0, "likes": 0})  # fmt: skip
        else:
            self._send(404, b"{}")

    def _known(self, repo: str, revision: str) -> bool:
        if repo not in self.hub.repositories:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return False
        if self.hub.files(repo, revision) is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return False
        return True

    def _tree(self, repo: str, revision: str, folder: str, query: str) -> None:
        if not self._known(repo, revision):
            return
        files = self.hub.files(repo, revision) or {}
        inside = {path: content for path, content in files.items() if path.startswith(f"{folder}/" * bool(folder))}
        if not inside:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such folder"})
            return
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest(),
             "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}
            for path, content in inside.items()
        ]  # fmt: skip
        first = int(parse_qs(query).get("cursor", ["0"])[0])
        headers = {}
        if first + PAGE < len(entries):
            headers["Link"] = (
                f'<{self.hub.url}{urlsplit(self.path).path}?recursive=True&cursor={first + PAGE}>; rel="next"'
            )
        self._json(entries[first : first + PAGE], headers)

    def _file(self, repo: str, revision: str, path: str, cut: bool) -> None:
        if not self._known(repo, revision):
            return
        content = (self.hub.files(repo, revision) or {}).get(path)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such file"})
            return
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes",
                   "X-Repo-Commit": revision, "X-Linked-Size": str(len(content))}  # fmt: skip
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(206 if wanted else 200, content[first:], headers, cut)

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
