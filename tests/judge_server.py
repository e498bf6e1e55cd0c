"""A server on the loopback that speaks OpenAI's chat completions, and fails in every way it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer. `body` None: a completion with `content`."""

    content: str | None = ""
    status: int = 200
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds of silence before it."""
    drop: bool = False
    """Close the connection without a word."""
    half: bool = False
    """Close it in the middle of the body."""


def error(status: int, message: str = "something is wrong", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, body=json.dumps({"error": {"message": message, "type": "test"}}), headers=named)


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: Body


class JudgeServer:
    """Gives the replies of `script` one after the other, then what `judge` says to each body."""

    def __init__(self, judge: Callable[[Body], Reply] = lambda body: Reply("[[5]]"), script: Iterable[Reply] = ()):
        self.judge = judge
        self.script = list(script)
        self.requests: list[Request] = []
        self.busiest = 0
        """Most requests that were being answered at once."""
        self._busy = 0
        self._lock = threading.Lock()

    def __enter__(self) -> JudgeServer:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.requests.append(Request(self.path, dict(self.headers), body))
                    server._busy += 1
                    server.busiest = max(server.busiest, server._busy)
                    reply = server.script.pop(0) if server.script else None
                try:
                    reply = reply or server.judge(body)
                    time.sleep(reply.delay)
                finally:
                    with server._lock:  # before the answer goes: a client that has it may ask at once
                        server._busy -= 1
                self._send(reply)

            def _send(self, reply: Reply) -> None:
                if reply.drop:
                    return
                message = {"index": 0, "finish_reason": "stop",
                           "message": {"role": "assistant", "content": reply.content}}  # fmt: skip
                text = json.dumps({"object": "chat.completion", "choices": [message]})
                content = (text if reply.body is None else reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if reply.half else content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, address: Any) -> None:
                pass  # clients that are killed or give up

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def bodies(self) -> list[Body]:
        return [request.body for request in self.requests]


def asked(body: Body) -> str:
    """The user's message."""
    text: str = body["messages"][-1]["content"]
    return text
