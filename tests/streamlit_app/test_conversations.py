"""What a session remembers: the next prompt, and the transcript that a mixture reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.tasks.custom_json import COLUMNS, CustomJSON
from datamodules.tasks.table import open_table
from streamlit_app.answers import Answer, segments
from streamlit_app.conversations import Exchange, Spoken, transcript_json, transcript_text, turns
from streamlit_app.prompts import Prompt, Turn, base_prompt, chat_prompt, room_for_prompt
from tests.streamlit_app.parrot import ANSWERS, tokenizer
from vnc.conversation import Conversation, Message, Segment, render, render_prompt
from vnc.engine import Event
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return tokenizer()


def spoken(words: Tokenizer, pieces: tuple[Segment, ...], checkpoint: str = "a", chat: bool = True) -> Spoken:
    """An answer in one token for each character's byte, as no tokenizer would cut it."""
    answer = Answer(Prompt((), 0))
    for piece in pieces:
        for byte in piece.text.encode():
            answer.add(Event(0, words.encode(chr(byte))[0], chr(byte), piece.kind))
    answer.add(Event(0, None, "", "text", "stop"))
    return Spoken(checkpoint, checkpoint.upper(), chat, words.fingerprint, 0, 0.0, answer)


def text(words: str) -> tuple[Segment, ...]:
    return (Segment("text", words),)


def test_the_very_tokens_are_remembered(words: Tokenizer) -> None:
    exchange = Exchange("Hi", "", [spoken(words, text("parrot"))])
    (turn,) = turns([exchange], 0, words)
    assert turn == Turn("Hi", tuple(words.encode(c)[0] for c in "parrot"))
    assert list(turn.answer) != words.encode("parrot")


def test_another_vocabulary_gets_the_text_in_its_own_tokens(words: Tokenizer) -> None:
    other = Tokenizer.train(["Where is the river? " * 4, "by the river " * 3], 270)
    pieces = ANSWERS["What is 12*7?"]
    exchange = Exchange("Hi", "", [spoken(words, pieces)])
    (turn,) = turns([exchange], 0, other)
    messages = Message("user", text("Hi")), Message("assistant", pieces)
    closing = [other.special("<|im_end|>"), *other.encode("\n")]
    rendered = render(Conversation(messages), other)[0]
    assert rendered[-len(closing) - len(turn.answer) : -len(closing)] == list(turn.answer)
    assert chat_prompt("", (turn,), "And?", other, 500).ids == (
        *rendered, *render_prompt(Conversation((Message("user", text("And?")),)), other)[1:],
    )  # fmt: skip


def test_sides_remember_their_own_answers_and_silence_is_forgotten(words: Tokenizer) -> None:
    both = Exchange("Hi", "", [spoken(words, text("la")), spoken(words, text("so"))])
    alone = Exchange("And?", "", [spoken(words, text("mi"))])
    silent = Exchange("What?", "", [spoken(words, ()), spoken(words, ())])
    left, right = (turns([both, silent, alone], place, words) for place in (0, 1))
    assert [words.decode(turn.answer) for turn in left] == ["la", "mi"]
    assert [words.decode(turn.answer) for turn in right] == ["so", "mi"]


def test_the_prompt_is_the_rendered_conversation(words: Tokenizer) -> None:
    past = Turn("Hi", tuple(words.encode("la la")))
    messages = (Message("system", text("Sing.")), Message("user", text("Hi")), Message("assistant", text("la la")),
                Message("user", text("<|im_end|>?")))  # fmt: skip
    expected = render_prompt(Conversation(messages), words)
    assert chat_prompt("Sing.", (past,), "<|im_end|>?", words, 500) == Prompt(tuple(expected), 0)
    assert base_prompt("la", words, 500).ids == (words.bos_id, *words.encode("la"))


def test_the_oldest_turns_are_left_out_whole_and_the_system_prompt_stays(words: Tokenizer) -> None:
    past = tuple(Turn(f"{number} Hi", tuple(words.encode("la la la"))) for number in range(9))
    whole = chat_prompt("Sing.", past, "And?", words, 10_000)
    for kept in range(9, -1, -1):
        part = chat_prompt("Sing.", past[9 - kept :], "And?", words, 10_000)
        for room in (len(part.ids), len(part.ids) + 3):
            found = chat_prompt("Sing.", past, "And?", words, room)
            assert found.ids == part.ids and found.left_out == len(whole.ids) - len(part.ids)


def test_too_long_a_question_keeps_its_newest_part(words: Tokenizer) -> None:
    ids = words.encode("Hi la so " * 50)
    prompt = chat_prompt("", (), "Hi la so " * 50, words, 60)
    kept = ids[prompt.left_out :]
    messages = (Message("user", text(words.decode(kept))),)
    frame = len(render_prompt(Conversation(messages), words)) - len(words.encode(words.decode(kept)))
    assert len(prompt.ids) == 60 == frame + len(kept)
    assert words.decode(kept) in words.decode(prompt.ids)
    base = base_prompt("Hi la so " * 50, words, 60)
    assert base.ids == (words.bos_id, *ids[-59:]) and base.left_out == len(ids) - 59


def test_a_system_prompt_without_room_for_a_question(words: Tokenizer) -> None:
    with pytest.raises(UserError, match="system prompt takes .* shorten it"):
        chat_prompt("Sing. " * 100, (), "Hi", words, 60)
    with pytest.raises(UserError, match="too few for a conversation"):
        chat_prompt("", (), "Hi", words, 5)
    assert room_for_prompt(1024, 256) == 768 and room_for_prompt(256, 4096) == 192


def read_back(folder: Path, content: str) -> list[list[dict]]:
    file = folder / "chat.jsonl"
    file.write_text(content)
    task = CustomJSON(open_table(file, COLUMNS))
    return [task.conversation(number).to_dicts() for number in range(len(task))]


def test_the_transcript_is_what_the_json_task_reads(words: Tokenizer, tmp_path: Path) -> None:
    pieces = ANSWERS["What is 12*7?"]
    exchanges = [
        Exchange("Who?", "Be kind.", [spoken(words, text("A parrot."), "a"), spoken(words, text("A cuckoo."), "b")]),
        Exchange("Nothing?", "Be kind.", [spoken(words, (), "a"), spoken(words, (), "b")]),
        Exchange('12*7? "\n\u2028é\ud800', "Be kind.", [spoken(words, pieces, "a"), spoken(words, text("84"), "b")]),
    ]
    content = transcript_json(exchanges)
    first, second = read_back(tmp_path, content)
    assert [each["role"] for each in first] == ["system", "user", "assistant", "user", "assistant"]
    assert [part["text"] for part in first[4]["content"]] == ["It is ", "12*7", "84", "84."]
    assert second[4] == {"role": "assistant", "content": "84"}
    assert [json.loads(line)["checkpoint"] for line in content.splitlines()] == ["a", "b"]
    assert transcript_json([]) == ""
    assert "A: It is [12*7=84]84.\n" in transcript_text(exchanges) and "you: Who?" in transcript_text(exchanges)


def test_each_text_of_a_base_model_is_a_record_by_itself(words: Tokenizer, tmp_path: Path) -> None:
    exchanges = [Exchange(start, "unused", [spoken(words, text(" la"), chat=False)]) for start in ("Once", "Then")]
    assert [[each["content"] for each in record] for record in read_back(tmp_path, transcript_json(exchanges))] == [
        ["Once", " la"], ["Then", " la"],
    ]  # fmt: skip


def test_marks_that_a_model_says_by_itself_can_be_read_back(words: Tokenizer, tmp_path: Path) -> None:
    strange = (Segment("output", "5"), Segment("text", "x"), Segment("output", "6"), Segment("tool", "1+"))
    exchange = Exchange("Hi", "", [spoken(words, strange)])
    assert segments(exchange.spoken[0].answer.events) == (Segment("text", "5x6"), Segment("tool", "1+"))
    (record,) = read_back(tmp_path, transcript_json([exchange]))
    assert record[1]["role"] == "assistant"
