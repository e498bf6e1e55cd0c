"""TinyWorld: stories and conversations of an invented world (vnc/tinyworld), generated while training.

Document `index` of book `seed` is a pure function, so there are no files but the vocabulary, and nothing is ever read
twice: window after window, epoch after epoch, the book goes on. Validation reads from a book of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.base import RowDataModule
from datamodules.documents import Documents
from datamodules.packing import Packing, Row, pack
from vnc.conversation import render
from vnc.errors import UserError
from vnc.tinyworld.conversations import conversation
from vnc.tinyworld.floor import entropy_floor
from vnc.tinyworld.stories import story
from vnc.tokenizer import FILE_NAME, Tokenizer

Content = Literal["stories", "chat"]

WINDOW_DOCUMENTS = 128
STORY_EVERY = 8  # in chat one document in so many is a story (a third of what is learnt), lest the model forgets
TOKENIZER_DOCUMENTS = 2_000  # of each kind, from which the vocabulary is learnt
SAMPLE_PROMPTS: dict[Content, list[str]] = {  # nothing at all asks for a whole story
    "stories": ["", "Mara lives in", "Of all the animals"],
    "chat": ["Where does Mara live?", "Who are you?", "What is 37 plus 58?"],
}
VALIDATION_BOOK = -1  # a book that no data.seed can name


def story_document(index: int, book: int, tokenizer: Tokenizer) -> Row:
    """BOS and the story's tokens, all learnt: int32 (tokens,)."""
    return np.array([tokenizer.bos_id, *tokenizer.encode(story(index, book).text)], dtype=np.int32)


def chat_document(index: int, book: int, tokenizer: Tokenizer) -> Row:
    """A rendered conversation, of which only what the assistant says is learnt: int32 (tokens,)."""
    ids, learn = render(conversation(index, book), tokenizer)
    numbers = np.array(ids, dtype=np.int32)
    return np.where(learn, numbers, ~numbers)


@dataclass(frozen=True)
class GeneratedWindows:
    """Windows of a book. Epoch `e` has other documents than all epochs before it."""

    content: Content
    book: int
    count: int
    """Windows in an epoch."""
    tokenizer: Tokenizer

    @property
    def name(self) -> str:
        return f"TinyWorld {self.content}"

    def documents(self, epoch: int, window: int) -> Documents:
        first = (epoch * self.count + window) * WINDOW_DOCUMENTS
        return Documents.of([self._document(index) for index in range(first, first + WINDOW_DOCUMENTS)])

    def _document(self, index: int) -> Row:
        if self.content == "stories":
            return story_document(index, self.book, self.tokenizer)
        if index % STORY_EVERY:
            return chat_document(index, self.book, self.tokenizer)
        return story_document(-index - 1, self.book, self.tokenizer)  # pretraining counts up, so it has not seen these


class TinyWorld(RowDataModule):
    """Rows from the generated world.

    Args:
        content: "stories" to pretrain, or "chat": conversations, with a story as every eighth document.
        vocab_size: ids of the vocabulary that is learnt from the world's own text.
        data_dir: folder that keeps the vocabulary.
        lanes: streams the data is read in; the number of processes must divide it. Part of the order of the data.
        seed: which book is read.
        num_workers: 0 writes the stories on threads of the training process, n in n processes beside it.
        val_tokens: tokens that validation reads, in whole documents.
    """

    def __init__(
        self,
        content: Content = "stories",
        vocab_size: int = 2_048,
        data_dir: str = "data/tinyworld",
        lanes: int = 8,
        seed: int = 1337,
        num_workers: int = 0,
        val_tokens: int = 2**16,
    ) -> None:
        if content not in ("stories", "chat"):
            raise UserError(f"content={content!r}: TinyWorld has 'stories' and 'chat'")
        packing: Packing = "bestfit_split" if content == "stories" else "bestfit_pad"
        super().__init__(packing, lanes, seed, num_workers, val_tokens)
        self.content, self.vocab_size = content, vocab_size
        self.chat = content == "chat"
        self.sample_prompts = SAMPLE_PROMPTS[content]
        self.tokenizer_dir = Path(data_dir) / f"bpe_{vocab_size}"

    def prepare_data(self) -> None:
        """Learns the vocabulary unless it is there. Processes that do so at once write the same file, whole."""
        if not (self.tokenizer_dir / FILE_NAME).exists():
            Tokenizer.train(tokenizer_texts(), self.vocab_size).save(self.tokenizer_dir)

    def setup(self, stage: str) -> None:
        self.tokenizer = Tokenizer.load(self.tokenizer_dir)
        self.train_windows = GeneratedWindows(self.content, self.seed, self.lanes, self.tokenizer)
        # A newer generator writes other stories: the first window tells.
        beginning = hashlib.sha256(self.train_windows.documents(0, 0).tokens.tobytes())
        self.data_identity = {"content": self.content, "beginning": beginning.hexdigest()}

    def validation_rows(self) -> Row:
        """int32 (rows, sequence_len + 1): whole documents, padded, to hold their bits per byte against the floor."""
        documents, row_len = Documents.of(self._validation()), self._plan.config.sequence_len + 1
        return pack(documents, row_len, self.tokenizer.bos_id, "bestfit_pad")[0].astype(np.int32)

    @property
    def entropy_floor(self) -> float | None:
        """Bits per byte drawn for the very stories that validation reads; None for chat, and for a context too short
        to hold each of them whole."""
        documents = self._validation()
        if self.content != "stories" or max(map(len, documents)) > self._plan.config.sequence_len + 1:
            return None
        return entropy_floor(range(len(documents)), VALIDATION_BOOK)

    def _validation(self) -> list[Row]:
        """The validation book from its beginning, up to val_tokens tokens: at least one document."""
        write = story_document if self.content == "stories" else chat_document
        documents = [write(0, VALIDATION_BOOK, self.tokenizer)]
        tokens = len(documents[0])
        while tokens < self.val_tokens:
            documents.append(write(len(documents), VALIDATION_BOOK, self.tokenizer))
            tokens += len(documents[-1])
        return documents


def tokenizer_texts() -> Iterator[str]:
    """What the vocabulary is learnt from: stories, and all that is said in conversations."""
    for index in range(TOKENIZER_DOCUMENTS):
        yield story(index).text
        yield from (segment.text for message in conversation(index).messages for segment in message.segments)
