"""Documents of conversations, and which are left out since nothing in them is learnt."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from datamodules.documents import Documents
from datamodules.packing import pack
from datamodules.tasks.learnable import document, learnable, learnable_in_row
from datamodules.tasks.show import show
from vnc.conversation import Conversation, render
from vnc.rows import inputs_and_targets
from vnc.tokenizer import PATTERN, Tokenizer

USER = {"role": "user", "content": "Hi é"}
ANSWERED = Conversation.from_dicts([USER, {"role": "assistant", "content": "Hello"}])
ASKED = Conversation.from_dicts([USER])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token a byte."""
    return Tokenizer([bytes([i]) for i in range(256)], PATTERN)


def test_targets_are_what_the_assistant_says_and_nothing_else(tokenizer: Tokenizer) -> None:
    tokens = document(ANSWERED, tokenizer)
    assert tokens.dtype == np.int32
    inputs, targets = inputs_and_targets(torch.from_numpy(tokens)[None])
    ids, _ = render(ANSWERED, tokenizer)
    assert inputs.tolist() == [ids[:-1]]
    end = tokenizer.special("<|im_end|>")
    assert [target for target in targets[0].tolist() if target >= 0] == [*b"Hello", end]
    learnt_at = [place for place, target in enumerate(targets[0].tolist()) if target >= 0]
    assert all(targets[0, place] == inputs[0, place + 1] for place in learnt_at[:-1])


def test_conversations_without_an_answer_are_left_out_and_counted(tokenizer: Tokenizer) -> None:
    documents = learnable([ASKED, ANSWERED, Conversation(()), ANSWERED], tokenizer)
    assert len(documents) == 2 and documents.left_out == 2
    assert all(one.tolist() == document(ANSWERED, tokenizer).tolist() for one in (documents[0], documents[1]))
    nothing = learnable([ASKED], tokenizer)
    assert len(nothing) == 0 and nothing.left_out == 1


runs = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), max_size=6)


@given(runs, st.integers(1, 12), st.integers(0, 3))
@settings(deadline=None)
def test_left_out_is_what_has_nothing_learnt_within_a_row(masks: list[list[bool]], row_len: int, before: int) -> None:
    """Oracle: document by document."""
    arrays = [np.array([n if learnt else ~n for n, learnt in enumerate(mask)], dtype=np.int32) for mask in masks]
    found = learnable_in_row(Documents.of(arrays, left_out=before), row_len)
    kept = [one for one in arrays if len(one) <= row_len or any(n >= 0 for n in one[:row_len].tolist())]
    assert [found[number].tolist() for number in range(len(found))] == [one.tolist() for one in kept]
    assert found.left_out == before + len(arrays) - len(kept)


def test_a_long_conversation_is_cut_by_packing_and_goes_if_its_answer_is_lost(tokenizer: Tokenizer) -> None:
    length = len(document(ANSWERED, tokenizer))
    start = int(np.flatnonzero(document(ANSWERED, tokenizer) >= 0)[0])
    documents = learnable([ANSWERED], tokenizer)
    for row_len in range(2, length + 2):
        within = learnable_in_row(documents, row_len)
        assert len(within) == (row_len > start) and within.left_out == (row_len <= start)
        if len(within):
            rows, _ = pack(within, row_len, tokenizer.bos_id, "bestfit_pad")
            assert (rows >= 0).any()


def test_show_marks_what_is_learnt(tokenizer: Tokenizer) -> None:
    answer: list[Any] = [
        {"type": "tool", "text": "1+1"},
        {"type": "output", "text": "2"},
        {"type": "text", "text": "2é"},
    ]
    ids, learn = render(Conversation.from_dicts([USER, {"role": "assistant", "content": answer}]), tokenizer)
    assert show(ids, learn, tokenizer) == (
        "<|bos|><|im_start|>user\nHi é<|im_end|>\n<|im_start|>assistant\n⟦<|tool_start|>1+1<|tool_end|>⟧"
        "<|output_start|>2<|output_end|>⟦2é<|im_end|>⟧\n"
    )
