"""Many judgements: their order, their cache, and what becomes of verdicts that are none."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judge_server import Body, JudgeServer, Reply, asked, error
from vnc.errors import UserError
from vnc.evals.chat_completions import KEY_VARIABLE
from vnc.evals.judge import Judge, Prompt, Verdict
from vnc.evals.judge_cache import JudgeCache, request_key

KEY = "sk-not-a-real-one-0123456789"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """Repeats the last word of what it is asked; the smaller that number, the longer it takes."""

    def repeat(body: Body) -> Reply:
        word = asked(body).split()[-1]
        return Reply(f"[[{word}]]", delay=0.001 * (20 - int(word)) if word.isdigit() and int(word) < 20 else 0.0)

    with JudgeServer(repeat) as server:
        yield server


def prompts(*numbers: object) -> list[Prompt]:
    return [Prompt("You judge.", f"Rate {number}") for number in numbers]


def number_in(words: str) -> int | None:
    found = re.fullmatch(r"\[\[(\d+)\]\]", words)
    return int(found[1]) if found else None


def test_order_is_that_of_the_prompts_whichever_comes_first(server: JudgeServer) -> None:
    done: list[int] = []
    judge = Judge(server.url, "j", workers=4)
    assert judge.verdicts(prompts(*range(16)), number_in, done.append) == [Verdict(n, f"[[{n}]]") for n in range(16)]
    assert sum(done) == 16
    assert 1 < server.busiest <= 4


def test_one_worker_asks_one_at_a_time(server: JudgeServer) -> None:
    Judge(server.url, "j", workers=1).ask(prompts(*range(5)), 0)
    assert server.busiest == 1
    assert [asked(body) for body in server.bodies] == [f"Rate {n}" for n in range(5)]


def test_what_is_sent(server: JudgeServer) -> None:
    Judge(server.url, "org/judge-1").ask(prompts(3), 0)
    assert server.bodies == [{
        "model": "org/judge-1", "temperature": 0, "seed": 0, "max_tokens": 2048,
        "messages": [{"role": "system", "content": "You judge."}, {"role": "user", "content": "Rate 3"}],
    }]  # fmt: skip


def test_equal_prompts_are_asked_once(server: JudgeServer) -> None:
    done: list[int] = []
    assert Judge(server.url, "j").ask(prompts(3, 4, 3, 3), 0, done.append) == ["[[3]]", "[[4]]", "[[3]]", "[[3]]"]
    assert len(server.requests) == 2
    assert sorted(done) == [1, 3]


def test_nothing_to_ask(server: JudgeServer) -> None:
    assert Judge(server.url, "j").verdicts([], number_in) == []
    assert server.requests == []


def test_a_verdict_that_is_none_is_asked_for_once_more_with_another_seed(server: JudgeServer) -> None:
    # "good" is never a verdict, 7 is one at the second time
    server.judge = lambda body: Reply("well" if "good" in asked(body) or body["seed"] == 0 else "[[7]]")
    server.script = [Reply("[[1]]")]
    judge = Judge(server.url, "j", workers=1)
    assert judge.verdicts(prompts(1, "good", 7), number_in) == [
        Verdict(1, "[[1]]"),
        Verdict(None, "well"),
        Verdict(7, "[[7]]"),
    ]
    assert [(asked(body), body["seed"]) for body in server.bodies] == [
        ("Rate 1", 0), ("Rate good", 0), ("Rate 7", 0), ("Rate good", 1), ("Rate 7", 1),
    ]  # fmt: skip


def test_the_cache_answers_the_second_time(server: JudgeServer, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "judge.jsonl"
    first = Judge(server.url, "j", cache=cache).verdicts(prompts(1, 2, "bad"), number_in)
    assert len(server.requests) == 4  # "bad" twice
    done: list[int] = []
    again = Judge(server.url, "j", cache=cache).verdicts(prompts(1, 2, "bad"), number_in, done.append)
    assert again == first
    assert first[2].value is None
    assert len(server.requests) == 4
    assert sum(done) == 3
    # a moved server is the same judge; another model or other words are not
    Judge(server.url + "/", "j", cache=cache).ask(prompts(2, 1), 0)
    assert len(server.requests) == 4
    Judge(server.url, "k", cache=cache).ask(prompts(2), 0)
    Judge(server.url, "j", cache=cache).ask([Prompt("You judge!", "Rate 2")], 0)
    assert len(server.requests) == 6


def test_without_a_file_a_judge_remembers_what_it_said(server: JudgeServer) -> None:
    judge = Judge(server.url, "j")
    assert judge.ask(prompts(1), 0) == judge.ask(prompts(1), 0)
    assert len(server.requests) == 1


def test_a_failure_keeps_what_was_answered_and_stops_the_rest(server: JudgeServer, tmp_path: Path) -> None:
    cache = tmp_path / "judge.jsonl"
    server.script = [Reply("[[0]]"), Reply("[[1]]"), error(401, "expired")]
    with pytest.raises(UserError, match=r"status 401 \(expired\)"):
        Judge(server.url, "j", cache=cache, workers=1).ask(prompts(*range(50)), 0)
    assert len(server.requests) < 10
    before = len(server.requests)
    assert len(cache.read_text().splitlines()) >= 2
    answers = Judge(server.url, "j", cache=cache, workers=4).ask(prompts(*range(50)), 0)
    assert answers == [f"[[{n}]]" for n in range(50)]
    assert len(server.requests) - before <= 48


def test_a_failure_ends_the_waits_of_the_others(server: JudgeServer) -> None:
    """One request is told to wait 100 s; the failure of another must not wait for it."""
    waiting = threading.Event()

    def judge(body: Body) -> Reply:
        if asked(body).endswith("1"):
            waiting.set()
            return error(429, Retry_After="100")
        waiting.wait(10)
        time.sleep(0.1)
        return error(404)

    server.judge = judge
    start = time.perf_counter()
    with pytest.raises(UserError, match="status 404"):
        Judge(server.url, "j", workers=2).ask(prompts(1, 2), 0)
    assert time.perf_counter() - start < 20


SCRIPT = """
import sys
from pathlib import Path
from vnc.evals.judge import Judge, Prompt
judge = Judge(sys.argv[1], "j", cache=Path(sys.argv[2]), workers=2)
judge.ask([Prompt("You judge.", f"Rate {n}") for n in range(40)], 0)
"""


def test_a_killed_run_goes_on(server: JudgeServer, tmp_path: Path) -> None:
    cache = tmp_path / "judge.jsonl"
    server.judge = lambda body: Reply(f"[[{asked(body).split()[-1]}]]", delay=0.03)
    environment = os.environ | {"PYTHONPATH": str(ROOT), KEY_VARIABLE: KEY}
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, server.url, str(cache)], env=environment)
    deadline = time.monotonic() + 60
    while len(server.requests) < 12 and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    sent = len(server.requests)
    assert 12 <= sent < 40
    kept = len(cache.read_text().splitlines())
    assert kept >= sent - 2 * 2  # at most those on their way, and those just answered, are lost
    assert Judge(server.url, "j", cache=cache).ask(prompts(*range(40)), 0) == [f"[[{n}]]" for n in range(40)]
    assert len(server.requests) - sent == 40 - kept
    assert KEY not in cache.read_text()


def test_key_from_the_environment_stays_out_of_files_and_words(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    judge = Judge(server.url, "j", cache=tmp_path / "judge.jsonl", pause=lambda seconds: None)
    judge.ask(prompts(1), 0)
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    server.script = [error(500, KEY)] * 99
    with pytest.raises(UserError) as caught:
        judge.ask(prompts(2), 0)
    assert KEY not in f"{caught.value!r} {judge!r} {vars(judge)}"
    assert all(KEY not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in "".join(capfd.readouterr())


def test_given_key_comes_before_the_environment(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    Judge(server.url, "j", key="other").ask(prompts(1), 0)
    assert server.requests[0].headers["Authorization"] == "Bearer other"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": " "}, "judge model"),
        ({"workers": 0}, "workers=0"),
        ({"retries": -1}, "retries=-1"),
        ({"timeout_seconds": 0}, "timeout_seconds=0"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds=nan"),
        ({"url": "localhost:8000"}, "judge url"),
    ],
)
def test_values_that_cannot_be_right(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Judge(**{"url": "http://host", "model": "j", **options})  # type: ignore[arg-type]


class TestCacheFile:
    def test_key_names_content_not_order(self) -> None:
        assert request_key({"a": 1, "b": [2]}) == request_key({"b": [2], "a": 1})
        assert request_key({"a": 1, "seed": 0}) != request_key({"a": 1, "seed": 1})

    def test_half_a_line_is_passed_over_wherever_it_was_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "judge.jsonl"
        whole = JudgeCache(path)
        whole.add("k1", "j", "one\ntwo")
        whole.add("k2", "j", "\u00fc")
        first, second = path.read_bytes().splitlines(keepends=True)
        for cut in range(len(second)):
            path.write_bytes(first + second[:cut])
            torn = JudgeCache(path)
            assert torn["k1"] == "one\ntwo"
            assert ("k2" in torn) == (cut == len(second) - 1)  # whole but for its line end
            torn.add("k3", "j", "three")
            reread = JudgeCache(path)
            assert (reread["k1"], reread["k3"]) == ("one\ntwo", "three")
            assert ("k2" in reread) == (cut == len(second) - 1)

    @pytest.mark.parametrize("content", ["my notes\n", "[1]\n", '{"a": 1}\n', "3\n", "my notes"])
    def test_a_file_that_is_something_else_is_left_alone(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "notes.txt"
        path.write_text(content)
        with pytest.raises(UserError, match=r"notes.txt, line 1: no judgement"):
            JudgeCache(path)
        assert path.read_text() == content

    def test_a_place_that_cannot_be_written_is_told_first(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for path in (tmp_path, tmp_path / "file" / "judge.jsonl"):
            with pytest.raises(UserError, match="no place for the judge's cache"):
                JudgeCache(path)

    def test_many_threads_write_whole_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "judge.jsonl"
        cache = JudgeCache(path)
        threads = [
            threading.Thread(target=lambda t=t: [cache.add(f"{t}-{n}", "j", "x" * 3000) for n in range(20)])
            for t in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(json.loads(line)["key"] for line in path.read_text().splitlines()) == sorted(
            f"{t}-{n}" for t in range(8) for n in range(20)
        )
