"""From a conversation to a document, and which documents there is nothing to learn from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from datamodules.documents import Documents, Tokens
from vnc.conversation import Conversation, render
from vnc.tokenizer import Tokenizer


def document(conversation: Conversation, tokenizer: Tokenizer) -> Tokens:
    """The rendered conversation, int32 (tokens,): what the assistant does not say is `~id` (vnc/rows.py)."""
    ids, learn = render(conversation, tokenizer)
    numbers = np.array(ids, dtype=np.int32)
    return np.where(learn, numbers, ~numbers)


def learnable(conversations: Iterable[Conversation], tokenizer: Tokenizer) -> Documents:
    """The documents of the conversations in which the assistant says something; the others are counted as left out."""
    rendered = [document(conversation, tokenizer) for conversation in conversations]
    kept = [tokens for tokens in rendered if (tokens >= 0).any()]
    return Documents.of(kept, left_out=len(rendered) - len(kept))


def learnable_in_row(documents: Documents, row_len: int) -> Documents:
    """The documents of whose first `row_len` tokens (sequence_len + 1) some are learnt; the others are left out too.

    Packing cuts what is longer than a row to the row. A long question whose answer begins beyond it would only be
    padding that costs compute. Documents that fit a row stay, whatever they hold; nothing is shortened here.
    """
    learnt = np.concatenate([[0], np.cumsum(documents.tokens >= 0)])
    starts, ends = documents.starts[:-1], documents.starts[1:]
    lost = (ends - starts > row_len) & (learnt[np.minimum(starts + row_len, ends)] == learnt[starts])
    if not lost.any():
        return documents
    kept = [documents[number] for number in np.flatnonzero(~lost).tolist()]
    return Documents.of(kept, documents.left_out + int(lost.sum()))
