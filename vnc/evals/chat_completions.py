"""One question to a chat model behind an OpenAI-compatible endpoint, asked until it is answered or cannot be.

The protocol is OpenAI's chat completions, POST {url}/chat/completions, which vLLM, llama.cpp, Ollama and most hosted
models speak as well. What may pass is tried again after a wait that doubles: too many requests (429), faults of the
server (5xx), time-outs, broken connections, answers that are no JSON. Anything else (a wrong key, no such model) is
told at once. The key goes into the request's header and nowhere else: redirects are not followed, and it is cut out of
what a server says before that is shown.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from vnc.errors import UserError

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_WAIT = 120.0
"""Seconds. A server that asks for more is not waited for."""
PASSING_STATUS = frozenset({408, 409, 429})

Pause = Callable[[float], object]
"""Waits that many seconds; a true result means: do not try again."""


class Endpoint:
    """Where a model is asked. Safe to use from several threads."""

    def __init__(self, url: str, key: str | None, timeout_seconds: float, retries: int) -> None:
        """url: the address before /chat/completions, such as http://127.0.0.1:8000/v1; /v1 may be left out where
        nothing else stands after the host. timeout_seconds: silence after which an attempt is given up."""
        self.url = completions_url(url)
        self._key = _checked_key(key)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._opener = urllib.request.build_opener(_StayHere)

    def complete(self, body: Mapping[str, Any], pause: Pause) -> str:
        """The text of the first choice, empty where the model refused. Raises UserError, naming URL and status."""
        data = json.dumps(body).encode()
        attempt = 0
        while True:
            try:
                return _content(self._post(data))
            except _Passing as fault:
                if fault.wait is not None and fault.wait > LONGEST_WAIT:
                    raise UserError(
                        f"{self.url}: {fault}; it asks to wait {fault.wait:.0f} s: run again then"
                    ) from None
                wait = min(2.0**attempt, LONGEST_WAIT) if fault.wait is None else fault.wait
                if attempt == self._retries or pause(wait):
                    raise UserError(f"{self.url}: {fault}, in each of {attempt + 1} attempts; see whether the server "
                                    "is up, then run again") from None  # fmt: skip
                attempt += 1

    def _post(self, data: bytes) -> bytes:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        request = urllib.request.Request(self.url, data, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                content: bytes = response.read()
                return content
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise UserError(f"{self.url}: its certificate cannot be trusted ({reason.verify_message})") from None
            if isinstance(reason, TimeoutError):
                raise _Passing(f"no answer within {self._timeout_seconds:g} s") from None
            raise _Passing(f"no connection or a broken one ({type(reason).__name__}: {reason})") from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What an answer other than 200 means."""
        status = f"status {error.code} ({self._said(error)})"
        if error.code in PASSING_STATUS or error.code >= 500:
            return _Passing(status, _retry_after(error.headers.get("Retry-After")))
        if error.code in (401, 403):
            advice = f"put a key that is allowed to ask this model into {KEY_VARIABLE}"
        elif error.code == 404:
            advice = "check the address (it mostly ends in /v1) and the model's name"
        elif error.code < 400:
            advice = "it points elsewhere; give the address that it points to"
        else:
            advice = "the server does not take this request"
        return UserError(f"{self.url}: {status}; {advice}")

    def _said(self, error: urllib.error.HTTPError) -> str:
        """The server's own words in short, without the key."""
        try:
            text = error.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            text = ""
        with contextlib.suppress(ValueError, KeyError, TypeError):  # not OpenAI's form: shown as it is
            text = str(json.loads(text)["error"]["message"])
        text = " ".join((text or str(error.reason)).split())
        if self._key:
            text = text.replace(self._key, "***")
        return text if len(text) <= 200 else f"{text[:200]}..."


class _Passing(Exception):
    """A fault that may be gone at the next attempt."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait
        """Seconds that the server asks to wait."""


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would turn POST into GET and carry the key to another host."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def completions_url(url: str) -> str:
    """The address to post to. Raises UserError, without repeating what may be a password in it."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not re.fullmatch(r"[!-~]+", url):
        raise UserError("judge url: give an address such as https://host/v1 or http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(f"judge url at {host}: leave out user, password and query; the key goes into {KEY_VARIABLE}")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}/chat/completions"


def _checked_key(key: str | None) -> str | None:
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY_VARIABLE}: holds characters that no key has; copy the key again")
    return key or None


def _content(answer: bytes) -> str:
    try:
        values = json.loads(answer)
        content = values["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise _Passing("an answer that is no chat completion") from None
    if content is not None and not isinstance(content, str):
        raise _Passing("an answer whose content is no text")
    return content or ""


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from the header's two forms: a number of seconds or a date (RFC 9110, section 10.2.3)."""
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value or "") - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # neither form, or a date without a zone
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
