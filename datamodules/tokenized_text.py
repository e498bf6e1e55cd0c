"""Text to documents of token ids, on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.documents import Documents
from datamodules.windows import TextWindows
from vnc.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """The documents of text windows, tokenised when they are read. Every epoch has the same."""

    texts: TextWindows
    tokenizer: Tokenizer

    @property
    def name(self) -> str:
        return self.texts.name

    @property
    def count(self) -> int:
        return self.texts.count

    def documents(self, epoch: int, window: int) -> Documents:
        return tokenize(self.texts.texts(window), self.tokenizer)


def tokenize(texts: Sequence[str], tokenizer: Tokenizer) -> Documents:
    """BOS and the tokens of each text; none at all of a text that holds nothing but white space."""
    bos = np.array([tokenizer.bos_id], dtype=np.uint32)
    parts, starts, end = [], np.zeros(len(texts) + 1, dtype=np.int64), 0
    for number, text in enumerate(texts, start=1):
        if text and not text.isspace():
            parts += [bos, tokenizer.encode_to_array(text)]
            end += 1 + len(parts[-1])
        starts[number] = end
    dtype = token_dtype(tokenizer)
    return Documents(np.concatenate(parts, dtype=dtype, casting="unsafe") if parts else np.empty(0, dtype), starts)


def token_dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    """The smallest that holds every id: uint16, or uint32 for vocabularies of more than 65,536."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
