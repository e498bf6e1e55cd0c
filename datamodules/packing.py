"""Packing: one window of documents becomes rows of one length.

A document is an int32 array in the encoding of rows (vnc/rows.py: a negative number is read but not learnt) that starts
with BOS. A packing first decides from the lengths alone which piece of which document goes where, then copies once.
Best-fit fills each row with the largest documents that still fit, so little is cropped or padded
(Ding et al. 2024, arXiv 2404.10830, pack this way; cropping to a full row is nanochat's rule).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.int32]
Packing = Literal["bestfit_crop", "bestfit_pad"]

PADDING = -1  # stands where a piece would name its document
Piece = tuple[int, int]  # (document or PADDING, how many of its first tokens)


@dataclass(frozen=True)
class PackingReport:
    """What became of the tokens of the windows packed: tokens == kept + cropped, rows x row length == kept + padded."""

    rows: int = 0
    tokens: int = 0
    kept: int = 0
    padded: int = 0
    documents: int = 0
    shortened: int = 0
    """Documents of which some or all tokens were cropped."""

    @property
    def cropped(self) -> int:
        return self.tokens - self.kept

    def __add__(self, other: PackingReport) -> PackingReport:
        return PackingReport(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.kept + other.kept,
            self.padded + other.padded,
            self.documents + other.documents,
            self.shortened + other.shortened,
        )


def pack(documents: Sequence[Row], row_len: int, bos_id: int, packing: Packing) -> tuple[Row, PackingReport]:
    """Packs non-empty documents into rows: int32 (rows, row_len), row_len being sequence_len + 1, and the account.

    bestfit_crop fills every row to the last token and crops what does not fit. bestfit_pad keeps every document
    whole (one that is longer than a row is cut to the row) and pads with `~bos_id`, which is never learnt.
    """
    lengths = [len(document) for document in documents]
    pieces = PACKINGS[packing](lengths, row_len)
    padding = np.full(row_len, ~bos_id, dtype=np.int32)
    parts = [(padding if document == PADDING else documents[document])[:count] for document, count in pieces]
    rows = np.concatenate(parts, dtype=np.int32).reshape(-1, row_len) if parts else np.empty((0, row_len), np.int32)
    whole = sum(document != PADDING and count == lengths[document] for document, count in pieces)
    padded = sum(count for document, count in pieces if document == PADDING)
    return rows, PackingReport(
        rows=len(rows),
        tokens=sum(lengths),
        kept=rows.size - padded,
        padded=padded,
        documents=len(documents),
        shortened=len(documents) - whole,
    )


def bestfit_crop(lengths: Sequence[int], row_len: int) -> list[Piece]:
    """Pieces, in order, whose lengths fill whole rows of `row_len`.

    The largest document that fits the space left in a row goes in; when none fits, the shortest one is cropped to fill
    the row exactly, and the rest of it is dropped. Among equals the earlier document fits first and is cropped last.

    A last row that the documents cannot fill is dropped: a padded one would cost as much compute as a full one, and
    then the tokens of a step would no longer be those that the plan counts. It is at most one row of a window, and
    seldom that where documents are long, since long ones are left for the end and fill their rows. A window's only row
    is kept and padded.
    """
    shelf, pieces, space, finished = _Shelf(lengths), list[Piece](), row_len, 0
    while len(shelf):
        document = shelf.take_largest(space)
        if document is None:
            document = shelf.take_shortest()
        count = min(lengths[document], space)
        pieces.append((document, count))
        space -= count
        if space == 0:
            space, finished = row_len, len(pieces)
    if finished:
        return pieces[:finished]
    return [*pieces, (PADDING, space)] if pieces else []


def bestfit_pad(lengths: Sequence[int], row_len: int) -> list[Piece]:
    """Pieces, in order, whose lengths with their padding fill whole rows of `row_len`.

    The largest document that fits goes in; when none fits, the rest of the row is padding. A document longer than a
    row fills one with its beginning.
    """
    lengths = [min(length, row_len) for length in lengths]
    shelf, pieces, space = _Shelf(lengths), list[Piece](), row_len
    while len(shelf):
        document = shelf.take_largest(space)
        if document is None:
            pieces.append((PADDING, space))
            space = row_len
        else:
            pieces.append((document, lengths[document]))
            space = space - lengths[document] or row_len
    if space < row_len:
        pieces.append((PADDING, space))
    return pieces


PACKINGS: dict[Packing, Callable[[Sequence[int], int], list[Piece]]] = {
    "bestfit_crop": bestfit_crop,
    "bestfit_pad": bestfit_pad,
}


class _Shelf:
    """Documents sorted by length that can be taken out: the largest that fits, or the shortest.

    O(log n) for each: a binary search finds the place, and a union-find over the sorted places skips what is gone.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        # Of equal lengths the earlier document stands last, where the search from the right meets it first.
        self._order = sorted(range(len(lengths)), key=lambda document: (lengths[document], -document))
        self._lengths = [lengths[document] for document in self._order]
        self._below = list(range(len(lengths) + 1))  # slot k > 0 is document k-1 in order; a taken slot points lower
        self._shortest = self._places()
        self._count = len(lengths)

    def __len__(self) -> int:
        return self._count

    def take_largest(self, space: int) -> int | None:
        """The longest document of at most `space` tokens, or None."""
        slot = self._find(bisect_right(self._lengths, space))
        return self._take(slot) if slot else None

    def take_shortest(self) -> int:
        return self._take(next(self._shortest))

    def _take(self, slot: int) -> int:
        self._below[slot] = slot - 1
        self._count -= 1
        return self._order[slot - 1]

    def _find(self, slot: int) -> int:
        """The nearest slot at or below that is not taken; 0 if there is none."""
        below = self._below
        while below[slot] != slot:
            below[slot] = below[below[slot]]
            slot = below[slot]
        return slot

    def _places(self) -> Iterator[int]:
        for slot in range(1, len(self._below)):
            if self._below[slot] == slot:
                yield slot
