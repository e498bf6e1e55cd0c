"""Answers for many sessions at once, from real models: the right ones, fairly, each session its own."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from streamlit_app import answers, chat_server
from streamlit_app.answers import Answer, segments
from streamlit_app.chat_server import LONGEST_PROMPT, ChatServer, Question
from streamlit_app.model_shelf import ModelShelf, SharedModel
from streamlit_app.prompts import Turn
from streamlit_app.turns import Turns
from tests.streamlit_app.parrot import ANSWERS, CONTEXT, HOSTILE, written
from vnc.cache import KVCache
from vnc.chat import Dialogue, open_model
from vnc.engine import transcript
from vnc.errors import UserError
from vnc.sampling import GREEDY, Sampling

PARROT, CUCKOO, BASE = (
    "parrot/checkpoints/step_00000300",
    "cuckoo/checkpoints/step_00000020",
    "base/checkpoints/step_00000100",
)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture
def parrot(server: ChatServer, parrots: Path) -> SharedModel:
    return server.open(parrots, PARROT)


def finished(answer: Answer) -> Answer:
    deadline = time.monotonic() + 60
    while answer.finish is None and time.monotonic() < deadline:
        answer.wait(10**9, 1.0)
    assert answer.finish is not None
    return answer


def said(answer: Answer) -> str:
    return transcript(finished(answer).events)


def alone(runs: Path, name: str, question: str, max_tokens: int, sampling: Sampling = GREEDY) -> tuple[int, ...]:
    """What `vnc chat` says."""
    events = Dialogue(open_model(str(runs / name)), sampling, max_tokens).reply(question)
    return tuple(event.token for event in events if event.token is not None)


def test_eight_sessions_at_once_each_get_what_a_lone_one_gets(
    server: ChatServer, parrots: Path, parrot: SharedModel
) -> None:
    """Different questions to different models, asked from eight threads at the same moment."""
    questions = ["Say it.", "What is 12*7?", "Who are you?", "Sing.", "Who is she?", "Sing it.", "", "What?"]
    names = [PARROT, PARROT, CUCKOO, PARROT, CUCKOO, BASE, BASE, PARROT]
    expected = [alone(parrots, name, text, 100) for name, text in zip(names, questions, strict=True)]
    assert len(set(expected)) >= 6
    barrier, found = threading.Barrier(8), [()] * 8

    def session(number: int) -> None:
        model = server.open(parrots, names[number])
        barrier.wait()
        question = Question(f"session {number}", 0, questions[number], max_tokens=100)
        found[number] = finished(server.ask(model, question)).tokens

    threads = [threading.Thread(target=session, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == expected


def test_sampled_answers_depend_on_the_seed_alone(server: ChatServer, parrots: Path, parrot: SharedModel) -> None:
    sampling = [Sampling(1.5, top_k=50, top_p=0.95, seed=seed) for seed in (3, 4, 3)]
    together = [
        server.ask(parrot, Question(f"s{number}", 0, "Hello?", sampling=each, max_tokens=40))
        for number, each in enumerate(sampling)
    ]
    found = [finished(answer).tokens for answer in together]
    assert found[0] == found[2] != found[1]
    assert found[:2] == [alone(parrots, PARROT, "Hello?", 40, each) for each in sampling[:2]]


def test_no_session_waits_for_anothers_whole_answer(
    server: ChatServer, parrot: SharedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_passes(monkeypatch, 0.001)
    long = server.ask(parrot, Question("long", 0, "Sing.", max_tokens=600))
    while len(long.events) < 5:
        long.wait(len(long.events), 1.0)
    short = server.ask(parrot, Question("short", 0, "Who are you?", max_tokens=600))
    assert said(short) == "A parrot."
    assert long.finish is None and len(long.events) < 100
    long.stop()


def test_a_long_prompt_is_read_in_pieces(server: ChatServer, parrot: SharedModel, monkeypatch) -> None:
    """Others get their turns in between, and the answer is that of a prompt that is read at once."""
    text = "la " * 220
    at_once = finished(server.ask(parrot, Question("a", 0, text, max_tokens=20))).tokens
    monkeypatch.setattr(chat_server, "READ_AT_ONCE", 64)
    widths = tokens_of_passes(monkeypatch)
    assert finished(server.ask(parrot, Question("b", 0, text, max_tokens=20))).tokens == at_once
    assert max(widths) == 64 and widths.count(64) >= 3


def tokens_of_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with each pass through a model, by the new positions that it reads."""
    read: list[int] = []
    begin = KVCache.begin

    def recorded(cache: KVCache, T: int, *reader: str) -> None:
        read.append(T)
        begin(cache, T, *reader)

    monkeypatch.setattr(KVCache, "begin", recorded)
    return read


def slow_passes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each pass through a model takes so much longer."""
    begin = KVCache.begin
    monkeypatch.setattr(KVCache, "begin", lambda *given: (time.sleep(seconds), begin(*given))[1])


def test_later_turns_read_only_what_is_new(
    server: ChatServer, parrots: Path, parrot: SharedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = Dialogue(open_model(str(parrots / PARROT)), GREEDY, 50)
    read = tokens_of_passes(monkeypatch)
    turns: list[Turn] = []
    for text in ("Say it.", "Who are you?", "Sing."):
        read.clear()
        tokens = finished(server.ask(parrot, Question("me", 0, text, tuple(turns), max_tokens=50))).tokens
        assert tokens == tuple(event.token for event in dialogue.reply(text) if event.token is not None)
        assert read[0] < 40
        turns.append(Turn(text, tokens))
    deadline = time.monotonic() + 20
    while server.idle_cache_bytes == 0:  # it is put aside after the answer has ended
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.forget("me")
    assert server.idle_cache_bytes == 0


def test_a_cache_is_never_used_for_another_conversation(server: ChatServer, parrots: Path, parrot: SharedModel) -> None:
    """The same session and place, but the last turn was edited, then another model is asked, then another session."""
    first = finished(server.ask(parrot, Question("me", 0, "Say it.", max_tokens=50))).tokens
    base = server.open(parrots, BASE)
    fresh = ChatServer(server.shelf)
    asked = [
        (parrot, Question("me", 0, "Who are you?", (Turn("Sing it.", first),), max_tokens=50)),
        (parrot, Question("me", 0, "Who are you?", (Turn("Say it.", first[:-3]),), max_tokens=50)),
        (base, Question("me", 0, "Say it.", max_tokens=50)),
        (parrot, Question("you", 0, "Say it.", max_tokens=50)),
        (parrot, Question("me", 1, "Sing.", max_tokens=50)),
        (parrot, Question("me", 0, "Say it.", system="Who are you?", max_tokens=50)),
    ]
    for number, (model, question) in enumerate(asked):
        again = Question(**(vars(question) | {"session": f"fresh {number}"}))
        expected = finished(fresh.ask(model, again)).tokens
        assert finished(server.ask(model, question)).tokens == expected
    fresh.close()


def test_sessions_with_the_same_conversation_do_not_share_its_cache(server: ChatServer, parrot: SharedModel) -> None:
    """Only one of them has a cache of the first turn; both go on from that turn at the same moment."""
    first = finished(server.ask(parrot, Question("mine", 0, "Say it.", max_tokens=50))).tokens
    _settled(server, 1)
    asked = [
        server.ask(parrot, Question(session, 0, "Sing.", (Turn("Say it.", first),), max_tokens=90))
        for session in ("yours", "mine")
    ]
    yours, mine = (finished(answer).tokens for answer in asked)
    assert yours == mine and len(mine) > 10


def test_idle_caches_have_a_limit(server: ChatServer, parrot: SharedModel, monkeypatch) -> None:
    finished(server.ask(parrot, Question("s0", 0, "Who are you?")))
    one = _settled(server, 1)
    monkeypatch.setattr(chat_server, "IDLE_CACHE_BYTES", 3 * one)
    for number in range(1, 6):
        finished(server.ask(parrot, Question(f"s{number}", 0, "Who are you?")))
    assert _settled(server, 3) == 3 * one
    assert [session for session, _ in server._held] == ["s3", "s4", "s5"]


def _settled(server: ChatServer, caches: int) -> int:
    """The idle bytes, once the model's thread has put the last cache back."""
    deadline = time.monotonic() + 10
    while (len(server._held) != caches or server.turns._running) and time.monotonic() < deadline:
        time.sleep(0.01)
    return server.idle_cache_bytes


def test_stop_keeps_the_partial_text_and_the_next_turn_goes_on_from_it(
    server: ChatServer, parrot: SharedModel, parrots: Path
) -> None:
    answer = server.ask(parrot, Question("me", 0, "Sing.", max_tokens=600))
    while len(answer.events) < 10:
        answer.wait(len(answer.events), 1.0)
    for _ in range(2):  # the button and another tab, or twice the button
        answer.stop()
    assert answer.finish == "stopped"
    kept = answer.tokens
    assert 10 <= len(kept) < 300 and transcript(answer.events).startswith("la la la")
    time.sleep(0.1)
    assert answer.tokens == kept
    after = finished(server.ask(parrot, Question("me", 0, "Who are you?", (Turn("Sing.", kept),), max_tokens=50)))
    fresh = finished(server.ask(parrot, Question("you", 0, "Who are you?", (Turn("Sing.", kept),), max_tokens=50)))
    assert after.tokens == fresh.tokens


def test_calculator_calls_are_segments(server: ChatServer, parrot: SharedModel) -> None:
    answer = finished(server.ask(parrot, Question("me", 0, "What is 12*7?")))
    assert segments(answer.events) == ANSWERS["What is 12*7?"] and answer.finish == "stop"
    assert said(server.ask(parrot, Question("me", 0, "Say it."))) == HOSTILE
    assert transcript(answer.events) == written(ANSWERS["What is 12*7?"]) == "It is [12*7=84]84."


def test_a_failing_answer_takes_no_other_down(server: ChatServer, parrot: SharedModel, monkeypatch, caplog) -> None:
    """Its fifth pass runs out of memory; the three that go on beside it end as ever, and so does the next."""
    begin, take = KVCache.begin, server.take_cache
    doomed: list[KVCache] = []
    passes: list[int] = []

    def taking(model: SharedModel, question: Question, ids: tuple[int, ...]) -> KVCache:
        cache = take(model, question, ids)
        if question.session == "doomed" and not doomed:
            doomed.append(cache)
        return cache

    def failing(cache: KVCache, T: int, *reader: str) -> None:
        if cache in doomed:
            passes.append(1)
            if len(passes) == 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
        begin(cache, T, *reader)

    monkeypatch.setattr(server, "take_cache", taking)
    monkeypatch.setattr(KVCache, "begin", failing)
    asked = [server.ask(parrot, Question(name, 0, "Say it.", max_tokens=90)) for name in ("a", "doomed", "b", "c")]
    texts = [said(answer) for answer in asked]
    assert texts[0] == texts[2] == texts[3] == HOSTILE
    assert asked[1].finish == "failed" and "OutOfMemoryError" in asked[1].problem and len(asked[1].tokens) == 4
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert said(server.ask(parrot, Question("doomed", 0, "Who are you?"))) == "A parrot."


def test_limits_on_prompt_and_answer(server: ChatServer, parrot: SharedModel) -> None:
    with pytest.raises(UserError, match="1,000,000 characters"):
        server.ask(parrot, Question("me", 0, "x" * 1_000_000))
    with pytest.raises(UserError, match="1,000,000 characters"):
        server.ask(parrot, Question("me", 0, "x", system="x" * 1_000_000))
    for max_tokens in (0, 100_000):
        with pytest.raises(UserError, match="tokens: choose from 1 to"):
            server.ask(parrot, Question("me", 0, "x", max_tokens=max_tokens))
    answer = finished(server.ask(parrot, Question("me", 0, "x " * (LONGEST_PROMPT // 2), max_tokens=5)))
    assert answer.prompt.left_out > LONGEST_PROMPT // 4 and len(answer.prompt.ids) == CONTEXT - 5
    answer = finished(server.ask(parrot, Question("me", 0, "Sing.", max_tokens=4096)))
    assert answer.finish == "context" and len(answer.tokens) + len(answer.prompt.ids) == CONTEXT


def test_the_queue_is_limited_for_each_session_and_for_all(parrots: Path) -> None:
    server = ChatServer(turns=Turns(places=2, waiting=2, per_session=2))
    parrot = server.open(parrots, PARROT)
    asked = [server.ask(parrot, Question("a", place, "Sing.", max_tokens=900)) for place in (0, 1)]
    with pytest.raises(UserError, match="2 answers are under way here"):
        server.ask(parrot, Question("a", 0, "Sing."))
    while not all(answer.events for answer in asked):
        asked[0].wait(10**9, 0.01)
    asked += [server.ask(parrot, Question(name, 0, "Who are you?")) for name in "bc"]
    with pytest.raises(UserError, match="queue is full"):
        server.ask(parrot, Question("d", 0, "Sing."))
    assert not asked[2].events  # waits for a place
    asked[2].stop()
    asked.append(server.ask(parrot, Question("d", 0, "Who are you?")))  # in the place of the one that was stopped
    asked[0].stop()
    assert said(asked[3]) == said(asked[4]) == "A parrot." and asked[2].events == []
    server.close()
    assert asked[1].finish == "stopped"


def test_an_answer_that_nobody_looks_at_ends(server: ChatServer, parrot: SharedModel, monkeypatch) -> None:
    monkeypatch.setattr(answers, "UNWATCHED_SECONDS", 0.05)
    slow_passes(monkeypatch, 0.001)
    answer = server.ask(parrot, Question("gone", 0, "Sing.", max_tokens=900))
    deadline = time.monotonic() + 20
    while answer.finish is None and time.monotonic() < deadline:
        time.sleep(0.01)  # not wait(), which is looking
    assert answer.finish == "stopped" and len(answer.tokens) < 900


def test_a_checkpoint_that_is_deleted_while_loaded(server: ChatServer, own_runs: Path) -> None:
    model = server.open(own_runs, CUCKOO)
    answer = server.ask(model, Question("me", 0, "Sing it.", max_tokens=300))
    shutil.rmtree(own_runs / "cuckoo")
    finished(answer)
    assert answer.finish != "failed"
    assert said(server.ask(server.open(own_runs, CUCKOO), Question("me", 0, "Who are you?"))) == "A cuckoo."
    other = ChatServer()
    with pytest.raises(UserError, match="may have been deleted"):
        other.open(own_runs, CUCKOO)


def test_a_checkpoint_that_is_replaced_is_opened_anew(server: ChatServer, own_runs: Path) -> None:
    assert said(server.ask(server.open(own_runs, CUCKOO), Question("me", 0, "Who are you?"))) == "A cuckoo."
    shutil.rmtree(own_runs / CUCKOO)
    shutil.copytree(own_runs / PARROT, own_runs / CUCKOO)
    os.utime(own_runs / CUCKOO / "model.json")
    assert said(server.ask(server.open(own_runs, CUCKOO), Question("me", 0, "Who are you?"))) == "A parrot."


def test_models_are_opened_once_and_the_oldest_make_room(parrots: Path) -> None:
    opened: list[str] = []

    def opener(folder: str):
        opened.append(Path(folder).parts[-3])
        time.sleep(0.05)
        return open_model(folder)

    server = ChatServer(ModelShelf(2, opener))
    threads = [threading.Thread(target=server.open, args=(parrots, PARROT)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in (CUCKOO, PARROT, BASE, PARROT, CUCKOO):
        server.open(parrots, name)
    assert opened == ["parrot", "cuckoo", "base", "cuckoo"]


def test_nothing_changes_torchs_random_state(server: ChatServer, parrot: SharedModel) -> None:
    before = torch.random.get_rng_state()
    finished(server.ask(parrot, Question("me", 0, "x", sampling=Sampling(1.0, seed=5), max_tokens=20)))
    assert torch.equal(before, torch.random.get_rng_state()) and not parrot.loaded.gpt.training


def test_speed_is_measured(server: ChatServer, parrot: SharedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_passes(monkeypatch, 0.02)
    answer = finished(server.ask(parrot, Question("me", 0, "Sing.", max_tokens=15)))
    assert answer.first_token_seconds is not None and answer.first_token_seconds >= 0.02
    assert answer.tokens_per_second is not None and 0 < answer.tokens_per_second <= 50
