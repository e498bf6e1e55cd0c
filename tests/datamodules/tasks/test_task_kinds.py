"""Each kind of task: what its records become, and which records are refused."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.tasks.arc import Arc
from datamodules.tasks.custom_json import CustomJSON
from datamodules.tasks.gsm8k import Gsm8k, solution
from datamodules.tasks.mmlu import Mmlu
from datamodules.tasks.smoltalk import SmolTalk
from datamodules.tasks.spec import FROM_FILES
from datamodules.tasks.spelling import Spelling
from datamodules.tasks.table import Table, open_table
from datamodules.tasks.tinyworld import TinyWorldChat
from vnc.calculator import calculate
from vnc.conversation import Conversation, Segment
from vnc.errors import UserError
from vnc.multiple_choice import multiple_choice
from vnc.spelling import COUNT, SPELL
from vnc.spelling_words import WORDS
from vnc.tinyworld.conversations import conversation


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """table(record, ...): an opened JSON Lines file of them."""

    def write(*records: Any) -> Table:
        path = tmp_path / "train.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return open_table(path, [])

    return write


def texts(conversation: Conversation) -> list[tuple[str, str]]:
    """(kind, text) of the assistant's only turn, after the user's only turn."""
    user, assistant = conversation.messages
    assert (user.role, assistant.role) == ("user", "assistant")
    return [(segment.kind, segment.text) for segment in assistant.segments]


# --- GSM8K


def test_a_note_becomes_a_call_with_what_the_calculator_returns(table: Any) -> None:
    answer = "In May 48/2 = <<48/2=24>>24 clips.\nThat is $<<1,000*.5=500.00>>500.00.\n#### 500"
    [(kind, text), *_] = found = texts(Gsm8k(table({"question": "How many?", "answer": answer})).conversation(0))
    assert (kind, text) == ("text", "In May 48/2 = ")
    assert found[1:] == [
        ("tool", "48/2"),
        ("output", "24"),
        ("text", "24 clips.\nThat is $"),
        ("tool", "1,000*.5"),
        ("output", "500"),
        ("text", "500.00.\n#### 500"),
    ]


@pytest.mark.parametrize(
    ("note", "output"),
    [
        ("1/3=0.33", "0.3333333333"),  # rounded
        ("2/3=0.66", "0.6666666667"),  # cut
        ("7/2=3", "3.5"),  # people buy whole things
        ("7/2=4", "3.5"),
        ("3/4=3/4", "0.75"),
        ("1,000+250=1,250", "1250"),
        ("2*3=7", None),  # wrong
        ("1/3=0.35", None),
        ("20%*50=10", None),  # beyond the calculator
        ("x+1=2", None),
        ("5", None),
        ("", None),
        ("1/0=1", None),
        ("6=six", None),
    ],
)
def test_a_note_that_does_not_agree_with_the_calculator_is_no_call(note: str, output: str | None) -> None:
    expected: tuple[Segment, ...] = (Segment("text", "a b"),)
    if output is not None:
        call = Segment("tool", note.rpartition("=")[0]), Segment("output", output)
        expected = (Segment("text", "a "), *call, Segment("text", "b"))
    assert solution(f"a <<{note}>>b") == expected


def test_neighbouring_notes_leave_no_empty_text() -> None:
    assert [segment.kind for segment in solution("<<1+1=2>><<2+2=4>>")] == ["tool", "output", "tool", "output"]


def test_all_of_gsm8k_keeps_its_text_and_its_calls_are_true(shared_data: Path) -> None:
    """Oracle: taking the calls away again leaves the answer without its notes; each output is what the call returns."""
    path = shared_data / "chat" / "gsm8k_train.jsonl"
    task, calls = Gsm8k(open_table(path, [])), 0
    for index, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n")):
        record = json.loads(line)
        found = task.conversation(index)
        assert "".join(text for kind, text in texts(found) if kind == "text") == re.sub("<<.*?>>", "", record["answer"])
        assert found.messages[0].segments == (Segment("text", record["question"]),)
        segments = found.messages[1].segments
        for call, output in zip(segments, segments[1:], strict=False):
            if call.kind == "tool":
                calls += 1
                assert output == Segment("output", calculate(call.text))
        assert re.search(r"#### \S+$", segments[-1].text)
    assert calls == 9_425  # all notes of these 3,000 solutions agree with our calculator


# --- questions with choices

MMLU = {"question": "2m+7?", "choices": ["w", "x", "y", "z"], "answer": 2, "subject": "algebra"}


def test_mmlu_also_as_the_hub_nests_it(table: Any) -> None:
    task = Mmlu(table(MMLU, {"train": MMLU}))
    for index in range(2):
        found = task.conversation(index)
        assert found.messages[0].segments[0].text == multiple_choice("2m+7?", "ABCD", ["w", "x", "y", "z"])
        assert texts(found) == [("text", "C")]


ARC = {"question": "Why?", "choices": ["x", "y", "z"], "letters": ["1", "2", "3"], "answerKey": "2"}
ARC_HUB = {"question": "Why?", "choices": {"text": ["x", "y", "z"], "label": ["A", "B", "C"]}, "answerKey": "B"}


def test_arc_in_both_layouts_and_with_numbers_for_labels(table: Any) -> None:
    task = Arc("challenge", table(ARC, ARC_HUB))
    assert task.name == "arc_challenge"
    for index in range(2):
        assert task.conversation(index).messages[0].segments[0].text == multiple_choice("Why?", "ABC", ["x", "y", "z"])
        assert texts(task.conversation(index)) == [("text", "B")]


def test_arc_and_mmlu_from_parquet_as_the_hub_stores_them(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ARC_HUB]), tmp_path / "arc.parquet")
    pq.write_table(pa.Table.from_pylist([{"train": MMLU}]), tmp_path / "mmlu.parquet")
    for name, file, answer in (("arc_easy", "arc", "B"), ("mmlu", "mmlu", "C")):
        make, columns, _ = FROM_FILES[name]
        assert texts(make(open_table(tmp_path / f"{file}.parquet", columns)).conversation(0)) == [("text", answer)]


@pytest.mark.parametrize(
    ("kind", "record", "problem"),
    [
        (Mmlu, MMLU | {"answer": 4}, "answer is 4, not the number of one of 4 choices"),
        (Mmlu, MMLU | {"answer": "C"}, "answer is 'C', not the number"),
        (Mmlu, MMLU | {"choices": []}, r"choices is \[\], not a list of texts"),
        (Mmlu, MMLU | {"choices": [str(i) for i in range(27)]}, "27 choices"),
        (Mmlu, {"choices": ["a"], "answer": 0}, "question is None, not a text"),
        (lambda table: Arc("easy", table), ARC | {"answerKey": "A"}, "answerKey 'A' with labels"),
        (lambda table: Arc("easy", table), ARC | {"letters": ["1", "2"]}, "answerKey .2. with labels .* for 3 choices"),
        (lambda table: Arc("easy", table), ARC | {"choices": None}, "choices is None"),
        (Gsm8k, {"question": "a", "answer": 5}, "answer is 5, not a text"),
        (Gsm8k, {"question": "", "answer": "5"}, "question or answer is empty"),
        (SmolTalk, {"text": "a"}, "messages is None, not a list of messages"),
        (SmolTalk, {"messages": [{"role": "assistant", "content": "x"}]}, "message 0: role 'assistant' where 'user'"),
    ],
)
def test_a_broken_record_is_named(table: Any, kind: Any, record: Any, problem: str) -> None:
    good = {Mmlu: MMLU, Gsm8k: {"question": "a", "answer": "b"}}.get(kind, ARC)
    with pytest.raises(UserError, match=f"train.jsonl, line 2: {problem}.*correct this record") as caught:
        kind(table(good, record)).conversation(1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "kind"), [("mmlu_test", "mmlu"), ("arc_easy_val", "arc"), ("arc_challenge_val", "arc")]
)
def test_real_questions_are_answered_as_their_files_say(shared_data: Path, file: str, kind: str) -> None:
    path = shared_data / "chat" / f"{file}.jsonl"
    task = Mmlu(open_table(path, [])) if kind == "mmlu" else Arc("easy", open_table(path, []))
    for index, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n")):
        record = json.loads(line)
        number = record["answer"] if kind == "mmlu" else record["letters"].index(record["answerKey"])
        found = task.conversation(index)
        [(_, letter)] = texts(found)
        assert letter == "ABCDE"[number]
        assert f"* {record['choices'][number].strip()}={letter}\n" in found.messages[0].segments[0].text


# --- messages

TALK = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def test_smoltalk_ends_before_a_message_that_says_nothing(table: Any) -> None:
    silent = [*TALK, {"role": "user", "content": ""}, {"role": "assistant", "content": "b"}]
    task = SmolTalk(table({"messages": TALK}, {"messages": silent}, {"messages": [{"role": "user", "content": ""}]}))
    assert task.conversation(0) == task.conversation(1) == Conversation.from_dicts(TALK)
    assert task.conversation(2) == Conversation(())


def test_real_talk_is_taken_as_it_is(shared_data: Path) -> None:
    path = shared_data / "chat" / "smoltalk_like.parquet"
    task, rows = SmolTalk(open_table(path, ["messages"])), pq.read_table(path, columns=["messages"]).to_pylist()
    assert len(task) == len(rows)
    for index in range(0, len(rows), 7):
        assert task.conversation(index) == Conversation.from_dicts(rows[index]["messages"])


def test_own_conversations_in_both_forms(table: Any) -> None:
    task = CustomJSON(table({"messages": TALK, "id": 7}, TALK))
    assert task.name == "json train" and len(task) == 2
    assert task.conversation(0) == task.conversation(1) == Conversation.from_dicts(TALK)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"text": "x"}, r'no "messages" in it; a line is {"messages": \[\.\.\.\]} or the list alone'),
        ({"messages": TALK[1:] + TALK}, "message 2: a system message can only come first"),
        ([], "conversation: no messages"),
        ("hello", "conversation: expected a list of messages, found str"),
        ([{"role": "user"}], "message 0: no 'content'"),
    ],
)
def test_a_mistake_in_any_line_is_found_when_the_file_is_opened(table: Any, line: Any, problem: str) -> None:
    with pytest.raises(UserError, match=f"train.jsonl, line 2502: {problem}.*correct this record") as caught:
        CustomJSON(table(*[TALK] * 2501, line))
    assert "\n" not in str(caught.value)


# --- made up


def test_tinyworld_is_the_worlds_own_and_validates_on_another_book() -> None:
    task, held_out = TinyWorldChat(30), TinyWorldChat(30, validation=True)
    assert len(task) == 30
    assert [task.conversation(index) for index in range(30)] == [conversation(index, 0) for index in range(30)]
    assert held_out.conversation(0) == conversation(0, -1)


def test_words_are_plain_and_each_is_there_once() -> None:
    assert len(WORDS) > 1_000 and len(set(WORDS)) == len(WORDS)
    assert all(re.fullmatch("[a-z]+", word) for word in WORDS) and "strawberry" in WORDS


def test_spelling_is_true_and_asks_in_many_ways() -> None:
    """Oracle: the word is found in the question by the list of words, the letters and counts in Python."""
    task, forms, zeros = Spelling(2_000), Counter[str](), 0
    for index in range(len(task)):
        found = task.conversation(index)
        question = found.messages[0].segments[0].text
        parts = texts(found)
        if len(parts) == 1:
            [(_, answer)] = parts
            word = re.fullmatch(r"The letters of (\w+) are: ((?:\w )*\w)\.", answer)
            assert word and "".join(word[2].split()) == word[1] in question
            forms[re.sub(f'"?{word[1]}"?', "W", question)] += 1
            continue
        assert [kind for kind, _ in parts] == ["text", "tool", "output", "text"]
        (_, steps), (_, call), (_, output), (_, end) = parts
        asked = re.fullmatch(r'"(\w+)"\.count\("(\w)"\)', call)
        assert asked
        word_, letter = asked.groups()
        assert f"{word_}" in question and calculate(call) == output == str(sum(one == letter for one in word_))
        lines = [line.split() for line in steps.splitlines() if line.startswith("- ")]
        assert "".join(line[1] for line in lines) == word_
        numbered = [line[1:] for line in lines if len(line) == 3]
        assert numbered == [[letter, f"({number})"] for number in range(1, int(output) + 1)]
        assert end.endswith(f": {output}.")
        zeros += output == "0"
        forms[re.sub(f'"?\\b{letter}\\b"?', "L", re.sub(f'"?\\b{word_}\\b"?', "W", question))] += 1
    assert set(forms) >= {form.format(word="W", letter="L") for form in (*SPELL, *COUNT)}
    assert 20 < zeros < 300


def test_words_of_validation_are_never_trained_on() -> None:
    training, validation = Spelling(10), Spelling(10, validation=True)
    assert not set(training.words) & set(validation.words)
    assert set(training.words) | set(validation.words) == set(WORDS)
    assert "strawberry" in training.words and len(validation.words) == 55
    again = [Spelling(10).conversation(index) for index in range(10)]
    assert again == [training.conversation(index) for index in range(10)]
