"""The chat format once more, from the data's side: ids and mask against a second writer of the format, any Unicode, and
every conversation that a task makes. (tests/vnc/test_conversation.py has the format by hand.)"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from datamodules.tasks.arc import Arc
from datamodules.tasks.gsm8k import Gsm8k
from datamodules.tasks.mmlu import Mmlu
from datamodules.tasks.smoltalk import SmolTalk
from datamodules.tasks.spelling import Spelling
from datamodules.tasks.table import open_table
from datamodules.tasks.task import Task
from datamodules.tasks.tinyworld import TinyWorldChat
from vnc.conversation import Conversation, parse, render
from vnc.tokenizer import GPT2_BOS, GPT2_PATTERN, PATTERN, SPECIAL_TOKENS, Tokenizer

MERGES = [b"us", b"er", b"user", b"as", b"assistant", b"\n\n", b" a", b"<|", b"|>", b"im", b"\xf0\x9f"]


@pytest.fixture(scope="module", params=["ours", "gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Both patterns, with merges that would reach across the seams of the format if it let them."""
    tokens = [*(bytes([i]) for i in range(256)), *MERGES]
    if request.param == "ours":
        return Tokenizer(tokens, PATTERN)
    return Tokenizer(tokens, GPT2_PATTERN, (GPT2_BOS, *SPECIAL_TOKENS[1:]))


def second_writer(dicts: list[dict[str, Any]], tokenizer: Tokenizer) -> Iterator[tuple[int, bool]]:
    """(id, learnt) of a conversation in its JSON form, written from the description of the format alone."""
    number = {name: tokenizer.vocab_size - len(SPECIAL_TOKENS) + i for i, name in enumerate(SPECIAL_TOKENS)}
    yield number["<|bos|>"], False
    for message in dicts:
        mine = message["role"] == "assistant"
        yield number["<|im_start|>"], False
        yield from ((token, False) for token in tokenizer.encode(message["role"] + "\n"))
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            learnt = mine and part["type"] != "output"
            if part["type"] in ("tool", "output"):
                yield number[f"<|{part['type']}_start|>"], learnt
            yield from ((token, learnt) for token in tokenizer.encode(part["text"]))
            if part["type"] in ("tool", "output"):
                yield number[f"<|{part['type']}_end|>"], learnt
        yield number["<|im_end|>"], mine
        yield from ((token, False) for token in tokenizer.encode("\n"))


ODD = (
    *("\u200d", "\u202eabc\u202c", "e\u0301", "\ufeff", "\x00", "\ufffd", "\U0001f469\u200d\U0001f680", "\u2028"),
    *("\r\n", " ", "\t", "\n\nuser\n", "İ", "ß", "हि", "한", "\U0010ffff", "⟦x⟧", "a" * 300),
    *("<|im_end|>", "<|endoftext|>", "<|bos|>user\n", "<|tool_start|>1+1<|tool_end|>", "<|", "|>"),
)
characters = st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"])
odd_texts = st.lists(characters, min_size=1, max_size=5).map("".join)
segments = st.lists(st.tuples(odd_texts, odd_texts | st.just(""), odd_texts | st.just("")), min_size=1, max_size=2)


@st.composite
def any_talk(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An optional system message, then one or two rounds in which the assistant calls tools between texts."""
    dicts: list[dict[str, Any]] = [{"role": "system", "content": draw(odd_texts)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 2))):
        dicts.append({"role": "user", "content": draw(odd_texts)})
        parts = []
        for text, call, output in draw(segments):
            parts += [("text", text), ("tool", call), ("output", output)]
        answer = [{"type": kind, "text": text} for kind, text in [*parts, ("text", draw(odd_texts))]]
        dicts.append({"role": "assistant", "content": draw(st.sampled_from([answer, answer[0]["text"]]))})
    return dicts


@given(dicts=any_talk())
@example(dicts=[{"role": "user", "content": " "}, {"role": "assistant", "content": "\n"}])
@settings(deadline=None, max_examples=150)
def test_ids_and_mask_are_those_of_a_second_writer_and_parse_goes_back(
    dicts: list[dict[str, Any]], tokenizer: Tokenizer
) -> None:
    conversation = Conversation.from_dicts(dicts)
    ids, learn = render(conversation, tokenizer)
    assert list(zip(ids, learn, strict=True)) == list(second_writer(dicts, tokenizer))
    assert parse(ids, tokenizer) == conversation
    assert conversation.to_dicts() == dicts


def real_tasks(folder: Path) -> list[Task]:
    return [
        SmolTalk(open_table(folder / "smoltalk_like.parquet", ["messages"])),
        Mmlu(open_table(folder / "mmlu_val.jsonl", [])),
        Gsm8k(open_table(folder / "gsm8k_test.jsonl", [])),
        Arc("easy", open_table(folder / "arc_easy_val.jsonl", [])),
    ]


def test_every_kind_of_task_keeps_to_the_format(shared_data: Path, tokenizer: Tokenizer) -> None:
    for task in (*real_tasks(shared_data / "chat"), Spelling(40), TinyWorldChat(40)):
        for index in range(0, len(task), max(1, len(task) // 40)):
            conversation = task.conversation(index)
            ids, learn = render(conversation, tokenizer)
            assert list(zip(ids, learn, strict=True)) == list(second_writer(conversation.to_dicts(), tokenizer))
            assert parse(ids, tokenizer) == conversation
            assert any(learn) and conversation.messages[-1].role == "assistant"
