"""Batched answers against the model asked once at a time without a cache, tools worked out by hand."""

import pytest
import torch

from tests.vnc.evals.chatcore.conftest import LETTERS, SPELLING, SUMS, letter_conversation, sum_conversation
from vnc.calculator import calculate
from vnc.checkpoint import LoadedModel
from vnc.config import GPTConfig
from vnc.conversation import Conversation, Message, Segment, render_prompt
from vnc.evals.chatcore import answers
from vnc.evals.chatcore.answers import answer, places


def asked(text: str) -> Conversation:
    return Conversation((Message("user", (Segment("text", text),)),))


def questions() -> list[Conversation]:
    conversations = [*map(sum_conversation, SUMS), *map(letter_conversation, LETTERS)]
    own = [Conversation(each.messages[:1]) for each in conversations] + [asked(each.text) for each in SPELLING]
    return own[::2] + own[1::2]


@torch.no_grad()
def plain_answer(loaded: LoadedModel, conversation: Conversation, max_tokens: int) -> str:
    """Every token from the whole text anew; what is not text is skipped."""
    tokenizer, ids = loaded.tokenizer, render_prompt(conversation, loaded.tokenizer)
    special, text, call, said, inside = tokenizer.special, [], [], 0, False
    while said < max_tokens and len(ids) < loaded.gpt.config.sequence_len:
        token = int(loaded.gpt.logits(loaded.gpt(torch.tensor([ids]))[0, -1]).argmax())
        if token in (tokenizer.bos_id, special("<|im_end|>")):
            break
        ids.append(token)
        said += 1
        if token == special("<|tool_start|>"):
            inside, call = True, []
        elif token == special("<|tool_end|>"):
            if inside:
                output = tokenizer.encode(calculate(tokenizer.decode(call)))
                ids += [special("<|output_start|>"), *output, special("<|output_end|>")]
                said += len(output) + 2
            inside = False
        elif inside:
            call.append(token)
        elif token not in tokenizer.special_ids:
            text.append(token)
    return tokenizer.decode(text)


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_answers_are_those_of_one_at_a_time(
    chat_model: LoadedModel, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(answers.PLACES, "cpu", rows)
    heard: list[int] = []
    conversations = questions()
    found = answer(chat_model, conversations, 40, heard.append)
    expected = [plain_answer(chat_model, each, 40) for each in conversations]
    assert found == expected
    assert len(set(found)) > 8 and sum("####" in text for text in found) >= 4  # it has learnt something to say
    assert sum(heard) == len(conversations)


def test_tool_calls_are_made_and_are_no_part_of_the_text(chat_model: LoadedModel) -> None:
    [text] = answer(chat_model, [asked(SUMS[0].question)], 40)
    assert text == "It is 3.\n#### 3"


def test_a_prompt_beyond_the_context_keeps_its_newest_part(chat_model: LoadedModel) -> None:
    long = "so " * 100 + SPELLING[0].text
    with pytest.warns(UserWarning, match=r"1 of 2 prompts were longer than 96 tokens"):
        found = answer(chat_model, [asked(long), asked(SPELLING[0].text)], 64)
    assert len(found) == 2 and found[1] == plain_answer(chat_model, asked(SPELLING[0].text), 64)


def test_nothing_asked(chat_model: LoadedModel) -> None:
    assert answer(chat_model, [], 10) == []


def test_places_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GPTConfig(n_layer=4, n_embd=512, n_head=4, sequence_len=1024, window_pattern="SL")
    a_row = 2 * 4 * 512 * (2 * 256 + 2 * 1000)  # keys and values, bytes, width, slots of two short and two long layers
    monkeypatch.setitem(answers.CACHE_BYTES, "cpu", 5 * a_row)
    assert places(config, 1000, "cpu") == 5
    assert places(config, 10, "cpu") == answers.PLACES["cpu"]
    monkeypatch.setitem(answers.CACHE_BYTES, "cpu", 1)
    assert places(config, 1000, "cpu") == 1
