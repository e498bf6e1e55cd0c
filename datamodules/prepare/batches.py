"""Documents on their way from a file: batches of texts, and what could not be made a document and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from vnc.errors import UserError

BATCH_DOCUMENTS = 4_096
BATCH_CHARACTERS = 4_000_000
MOST_BYTES = 2**31 - 2**20
"""Of one document: Parquet strings are read with 32-bit offsets."""

EMPTY, NULL = "empty", "null"
HARMLESS = (EMPTY, NULL)  # left out without asking: nothing could be learnt from them
NOT_UTF8, BROKEN_JSON, BROKEN_CSV = "not UTF-8", "broken JSON", "broken CSV"
NO_COLUMN, NO_STRING, UNREADABLE = "no such column", "not a string", "unreadable file"
UNKNOWN_KIND = "unknown kind of file"


@dataclass(frozen=True)
class Problem:
    """Something in a source that is no document."""

    where: str
    """File and line, row or document."""
    reason: str
    """One of the reasons above."""
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some documents of one file, in its order."""

    texts: pa.Array
    """large_string without nulls."""
    records: int
    """Lines, rows or documents of the file up to the end of this batch, those left out included."""
    position: int
    """Bytes of the file read so far, roughly."""
    problems: list[Problem] = field(default_factory=list)
    last: bool = False
    """Whether the file has ended."""


@dataclass(frozen=True)
class Format:
    """How documents stand in files."""

    column: str = "text"
    """Of JSON Lines, CSV and Parquet."""
    document: str = "file"
    """Of .txt and .md: one document a "file", a "line", or between occurrences of this text."""

    @property
    def delimiter(self) -> str:
        r"""The delimiter, \n, \t, \r and \\ read as in Python."""
        parts = self.document.split("\\\\")
        return "\\".join(p.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r") for p in parts)


class Gathering:
    """Texts of one file until they make a batch."""

    def __init__(self, shown: str, size: int) -> None:
        self._shown, self._size = shown, size
        self._begin()

    def _begin(self) -> None:
        self._texts: list[str] = []
        self._places: list[str] = []
        self._problems: list[Problem] = []
        self._characters = 0

    def add(self, text: str, place: str) -> None:
        """`place` is what follows the file's name in a message, such as ":12"."""
        if not text or text.isspace():
            self._problems.append(Problem(self._shown + place, EMPTY))
            return
        self._texts.append(text)
        self._places.append(place)
        self._characters += len(text)

    def fail(self, place: str, reason: str, detail: str = "") -> None:
        self._problems.append(Problem(self._shown + place, reason, detail))

    @property
    def full(self) -> bool:
        records = len(self._texts) + len(self._problems)
        return records >= BATCH_DOCUMENTS or self._characters >= BATCH_CHARACTERS

    def take(self, records: int, position: int | None = None) -> Batch:
        """What has come together; `position` None is the end of the file."""
        try:
            texts = pa.array(self._texts, pa.large_string())
        except UnicodeEncodeError:
            texts = self._encodable()
        reached = self._size if position is None else position
        batch = Batch(texts, records, reached, self._problems, last=position is None)
        self._begin()
        return batch

    def _encodable(self) -> pa.Array:
        """Half a surrogate pair, which JSON can spell, has no UTF-8."""
        kept = []
        for text, place in zip(self._texts, self._places, strict=True):
            try:
                text.encode()
                kept.append(text)
            except UnicodeEncodeError as error:
                self.fail(place, NOT_UTF8, f"half a surrogate pair at character {error.start}")
        return pa.array(kept, pa.large_string())


def refuse_bad_format(format: Format) -> None:
    if not format.document:
        raise UserError("--document: empty; use file, line, or the text between documents such as '<|endoftext|>'")
    if not format.column:
        raise UserError("--column: empty; name the column that holds the text")
