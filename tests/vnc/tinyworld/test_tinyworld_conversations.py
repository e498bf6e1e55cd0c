"""Chats: well-formed, true, sums right, and silent about what is held out."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vnc.conversation import Conversation
from vnc.tinyworld.conversations import conversation
from vnc.tinyworld.questions import HELD_OUT, QUESTIONS, fact_questions
from vnc.tinyworld.world import ATTRIBUTES, PEOPLE, PERSON

DIGEST = (
    "import hashlib; from vnc.tinyworld.conversations import conversation; "
    "print(hashlib.sha256(''.join(repr(conversation(i)) for i in range(300)).encode()).hexdigest())"
)
Turn = tuple[str, str]


@pytest.fixture(scope="module")
def chats() -> list[Conversation]:
    return [conversation(index) for index in range(12_000)]


@pytest.fixture(scope="module")
def turns(chats: list[Conversation]) -> list[Turn]:
    """Each question with its answer, tool calls left out."""
    pairs = []
    for chat in chats:
        for user, assistant in zip(chat.messages[::2], chat.messages[1::2], strict=True):
            answer = "".join(segment.text for segment in assistant.segments if segment.kind == "text")
            pairs.append((user.segments[0].text, answer))
    return pairs


def test_same_chats_in_every_process() -> None:
    here = hashlib.sha256("".join(repr(conversation(i)) for i in range(300)).encode()).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert there.stdout.strip() == here
    assert conversation(1, seed=1) != conversation(1)


def test_chats_are_valid_conversations(chats: list[Conversation]) -> None:
    for chat in chats[:3_000]:
        assert Conversation.from_dicts(chat.to_dicts()) == chat
        roles = [message.role for message in chat.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles


def test_calculator_is_called_and_right(chats: list[Conversation]) -> None:
    calls = 0
    for chat in chats:
        for message in chat.messages:
            kinds = [segment.kind for segment in message.segments]
            if "tool" in kinds:
                assert kinds == ["text", "tool", "output", "text"]
                sum_, tool, output, answer = (segment.text for segment in message.segments)
                assert re.fullmatch(r"\d+[-+*]\d+", tool) and sum_ == re.sub(r"([-+*])", r" \1 ", tool) + " = "
                assert str(eval(tool)) == output and answer.startswith(f"{output}.")
                calls += 1
    assert calls > 1_000


def test_no_chat_tells_what_is_held_out(turns: list[Turn]) -> None:
    """No question and answer (but a story told) holds both a person's name and a held-out fact about them."""
    asked = {(name, attribute): 0 for name in PERSON for attribute in ATTRIBUTES}
    for question, answer in turns:
        if "story" in question or question == "Name the towns." or question == "How many towns are there?":
            continue
        text = f"{question} {answer}"
        words = set(re.findall(r"\w+", text))
        for name in words & PERSON.keys():
            for attribute in ATTRIBUTES:
                value = getattr(PERSON[name], attribute)
                asked[name, attribute] += value in words or (" " in value and value in text)
    assert {pair for pair, times in asked.items() if not times} == set(HELD_OUT)
    assert min(times for pair, times in asked.items() if pair not in HELD_OUT) > 15


def test_held_out_questions_are_never_asked(turns: list[Turn]) -> None:
    asked = {question for question, _ in turns}
    for name, attribute in HELD_OUT:
        assert not asked & {form.replace("{x}", name) for form in QUESTIONS[attribute]}


def test_where_does_somebody_live_is_asked(turns: list[Turn]) -> None:
    answers = dict(turns)
    asked = [person for person in PEOPLE if f"Where does {person.name} live?" in answers]
    assert len(asked) >= 25  # of the 30 whose town is not held out
    for person in asked:
        assert answers[f"Where does {person.name} live?"] == f"{person.name} lives in {person.town}."


def test_fact_questions_cover_the_world() -> None:
    questions = list(fact_questions())
    assert len(questions) == 252 and sum(one.held_out for one in questions) == 42
    assert all(one.answer == getattr(PERSON[one.person], one.attribute) for one in questions)
    assert questions[0].question == "Where does Mara live?" and len({one.question for one in questions}) == 252


def test_answers_are_english(turns: list[Turn]) -> None:
    for question, answer in turns:
        assert not re.search(
            r"\b[Aa] [aeiou]|\b[Aa]n [^aeiouh]|  (?!\.)|[{}]|\(n\)|\b([a-z]+) \1\b", f"{question} {answer}"
        )
        assert question[-1] in ".?!" and answer[-1] in ".!", (question, answer)
