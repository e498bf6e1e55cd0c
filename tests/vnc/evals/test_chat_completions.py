"""One request: what is tried again, what is told at once, and that the key goes nowhere else."""

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.judge_server import JudgeServer, Reply, error
from vnc.errors import UserError
from vnc.evals.chat_completions import KEY_VARIABLE, Endpoint, completions_url

KEY = "sk-not-a-real-one-0123456789"
BODY = {"model": "judge", "messages": [{"role": "user", "content": "2 + 2"}]}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(lambda body: Reply("four")) as server:
        yield server


def complete(url: str, retries: int = 3, timeout_seconds: float = 20, key: str | None = KEY) -> tuple[str, list[float]]:
    """The answer, and the waits before it."""
    waits: list[float] = []
    return Endpoint(url, key, timeout_seconds, retries).complete(BODY, waits.append), waits


@pytest.mark.parametrize(
    ("given", "posted"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://host/v1", "https://host/v1/chat/completions"),
        ("https://host/v1/", "https://host/v1/chat/completions"),
        ("https://host/api/v1/chat/completions", "https://host/api/v1/chat/completions"),
        ("https://host/v1beta/openai/", "https://host/v1beta/openai/chat/completions"),
        (" http://[::1]:80/v1 ", "http://[::1]:80/v1/chat/completions"),
    ],
)
def test_address(given: str, posted: str) -> None:
    assert completions_url(given) == posted


NO_ADDRESSES = [
    *("", "host/v1", "ftp://host/v1", "http://", "http:///v1", "http://host:port/v1"),
    *("http://[::1/v1", "file:///etc/passwd", "http://host/a b", "http://host/\u00fc"),
]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_address_that_is_none(url: str) -> None:
    with pytest.raises(UserError, match="give an address such as"):
        completions_url(url)


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"])
def test_address_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UserError, match=KEY_VARIABLE) as caught:
        completions_url(url)
    assert "secret" not in str(caught.value)


def test_answer_at_once(server: JudgeServer) -> None:
    assert complete(server.url) == ("four", [])
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == BODY
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"


def test_without_a_key_no_authorization(server: JudgeServer) -> None:
    complete(server.url.removesuffix("/v1"), key="  ")
    assert "Authorization" not in server.requests[0].headers
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    "fault",
    [
        error(429),
        error(500),
        error(502),
        error(503),
        error(408),
        Reply(drop=True),
        Reply("four", half=True),
        Reply(body="<html>busy</html>"),
        Reply(body="[]"),
        Reply(body='{"choices": []}'),
        Reply(body='{"choices": [{"message": {"content": 4}}]}'),
        Reply(body='{"error": {"message": "overloaded"}}'),
    ],
    ids=lambda reply: f"{reply.status}-{reply.drop}-{reply.half}-{reply.body}",
)
def test_what_may_pass_is_tried_again_after_doubling_waits(server: JudgeServer, fault: Reply) -> None:
    server.script = [fault, fault, fault]
    assert complete(server.url) == ("four", [1.0, 2.0, 4.0])
    assert len(server.requests) == 4


def test_waits_stop_growing(server: JudgeServer) -> None:
    server.script = [error(500)] * 9
    assert complete(server.url, retries=9)[1] == [1, 2, 4, 8, 16, 32, 64, 120, 120]


def test_retry_after_in_seconds(server: JudgeServer) -> None:
    server.script = [error(429, Retry_After="7"), error(503, Retry_After="0.5"), error(429, Retry_After="-3")]
    assert complete(server.url)[1] == [7.0, 0.5, 0.0]


def test_retry_after_as_a_date(server: JudgeServer) -> None:
    later = datetime.now(UTC) + timedelta(seconds=60)
    server.script = [error(429, Retry_After=format_datetime(later, usegmt=True)),
                     error(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")]  # fmt: skip
    first, second = complete(server.url)[1]
    assert 50 < first <= 60
    assert second == 0.0


@pytest.mark.parametrize("value", ["soon", "", "nan", "inf", "Wed, 21 Oct 2015"])
def test_retry_after_that_says_nothing_counts_as_none(server: JudgeServer, value: str) -> None:
    server.script = [error(429, Retry_After=value)]
    assert complete(server.url)[1] == [1.0]


def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for(server: JudgeServer) -> None:
    server.script = [error(429, "quota used up", Retry_After="3600")]
    with pytest.raises(UserError, match=r"status 429 \(quota used up\).*3600 s: run again then"):
        complete(server.url)
    assert len(server.requests) == 1


def test_500_for_ever(server: JudgeServer) -> None:
    server.script = [error(500, "no memory")] * 99
    with pytest.raises(UserError, match=rf"^{server.url}/chat/completions: status 500 \(no memory\), in each of 4"):
        complete(server.url)
    assert len(server.requests) == 4


def test_after_the_last_attempt_nothing_is_waited_for(server: JudgeServer) -> None:
    server.script = [error(500)] * 9
    waits: list[float] = []
    with pytest.raises(UserError, match="in each of 3 attempts"):
        Endpoint(server.url, None, 20, 2).complete(BODY, waits.append)
    assert waits == [1.0, 2.0]


def test_no_retries(server: JudgeServer) -> None:
    server.script = [error(500)]
    with pytest.raises(UserError, match="in each of 1 attempts"):
        complete(server.url, retries=0)


def test_a_true_pause_gives_up(server: JudgeServer) -> None:
    server.script = [error(500)] * 9
    with pytest.raises(UserError, match="in each of 1 attempts"):
        Endpoint(server.url, None, 20, 5).complete(BODY, lambda seconds: True)
    assert len(server.requests) == 1


def test_silence_is_given_up_and_tried_again(server: JudgeServer) -> None:
    server.script = [Reply(delay=0.6)]
    assert complete(server.url, timeout_seconds=0.1) == ("four", [1.0])


def test_silence_for_ever(server: JudgeServer) -> None:
    server.script = [Reply(delay=0.3)] * 2
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"no answer within 0.1 s, in each of 2 attempts"):
        complete(server.url, retries=1, timeout_seconds=0.1)
    assert time.perf_counter() - start < 5


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UserError, match="ConnectionRefused.*in each of 4 attempts"):
            complete(url)


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, KEY_VARIABLE), (403, KEY_VARIABLE), (404, "the model's name"), (400, "does not take"), (422, "not take")],
)
def test_what_cannot_pass_is_told_at_once(server: JudgeServer, status: int, advice: str) -> None:
    server.script = [error(status, "no   such\nthing")] * 2
    with pytest.raises(UserError, match=rf"{server.url}.*status {status} \(no such thing\).*{advice}"):
        complete(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: JudgeServer, status: int) -> None:
    with JudgeServer() as other:
        server.script = [Reply(status=status, body="moved", headers={"Location": f"{other.url}/chat/completions"})]
        with pytest.raises(UserError, match=f"status {status}.*points elsewhere"):
            complete(server.url)
        assert other.requests == []


def test_a_key_that_the_server_repeats_is_not_shown(server: JudgeServer) -> None:
    server.script = [error(401, f"wrong key {KEY}!"), Reply(status=401, body=f"wrong key {KEY}!")]
    for _ in range(2):
        with pytest.raises(UserError, match=r"wrong key \*\*\*!") as caught:
            complete(server.url)
        assert KEY not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("key", ["sk-1\nsecret", "sk-\u20acsecret", "sk\x00secret"])
def test_a_key_that_no_header_can_carry_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(UserError, match=KEY_VARIABLE) as caught:
        Endpoint("http://host", key, 1, 1)
    assert "secret" not in str(caught.value)


def test_the_line_end_of_a_key_file_does_not_matter(server: JudgeServer) -> None:
    complete(server.url, key=f"{KEY}\n")
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_refusal_of_the_model_is_an_empty_answer(server: JudgeServer) -> None:
    server.script = [Reply(None)]
    assert complete(server.url) == ("", [])


def test_long_words_of_a_server_are_cut(server: JudgeServer) -> None:
    server.script = [error(400, "x" * 5000)]
    with pytest.raises(UserError) as caught:
        complete(server.url)
    assert len(str(caught.value)) < 400
