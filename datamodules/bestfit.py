"""Best-fit: from the lengths of documents alone, which piece of which document goes where.

Each row is filled with the largest documents that still fit (Ding et al. 2024, arXiv 2404.10830, pack this way, with
long documents split first). The three plans differ in what they do when nothing fits: crop, split, or pad.

O(log documents) for each piece, so the cost of a row does not grow with the window.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

PADDING = -1  # stands where a piece would name its document
Piece = tuple[int, int, int]
"""(document, first, cells): `cells` cells of a row with the document's tokens from `first` on. Where first > 0 the
first of the cells holds a BOS, and the tokens follow it. (PADDING, 0, cells) is padding."""


def bestfit_split(lengths: Sequence[int], row_len: int) -> list[Piece]:
    """Pieces, in order, whose cells fill whole rows of `row_len` (at least 2), with every token of every document.

    A document longer than a row fills whole rows, and what is left of it counts as a document. When none fits the
    space left in a row, the longest is cut there, and its rest opens the next row behind a BOS: long ones are cut
    sooner or later, short ones stay whole. When only the BOS of it would fit, that BOS is all that goes in.

    A last row that is not full is completed with what the window begins with, once more: a padded one would cost as
    much compute, and then the tokens of a step would no longer be those that the plan counts. A window's only row is
    padded.
    """
    pieces: list[Piece] = []
    rests: list[tuple[int, int]] = []  # (document, first token), with how many cells they take in `cells`
    cells: list[int] = []
    for document, length in enumerate(lengths):
        first = 0
        while (size := length - first + (first > 0)) > row_len:
            pieces.append((document, first, row_len))
            first += row_len - (first > 0)
        rests.append((document, first))
        cells.append(size)
    shelf, space = _Shelf(cells), row_len
    while len(shelf):
        rest = shelf.take_largest(space)
        if rest is not None:
            pieces.append((*rests[rest], cells[rest]))
            space = space - cells[rest] or row_len
            continue
        rest = shelf.take_longest()
        document, first = rests[rest]
        pieces.append((document, first, space))
        if space > 1:
            first += space - (first > 0)
        size = lengths[document] - first + (first > 0)
        pieces.append((document, first, size))
        space = row_len - size or row_len
    if space < row_len:
        only = sum(cells for _, _, cells in pieces) < row_len
        again = [] if only else range(len(lengths))
        for document in again:
            pieces.append((document, 0, min(lengths[document], space)))
            space -= pieces[-1][2]
            if not space:
                return pieces
        pieces.append((PADDING, 0, space))
    return pieces


def bestfit_crop(lengths: Sequence[int], row_len: int) -> list[Piece]:
    """Pieces, in order, whose cells fill whole rows of `row_len`.

    The largest document that fits the space left in a row goes in; when none fits, the shortest one is cropped to fill
    the row exactly, and the rest of it is dropped. Among equals the earlier document fits first and is cropped last.

    A last row that the documents cannot fill is dropped: it is at most one row of a window, and seldom that where
    documents are long, since long ones are left for the end and fill their rows. A window's only row is kept and
    padded.
    """
    shelf, pieces, space, finished = _Shelf(lengths), list[Piece](), row_len, 0
    while len(shelf):
        document = shelf.take_largest(space)
        if document is None:
            document = shelf.take_shortest()
        count = min(lengths[document], space)
        pieces.append((document, 0, count))
        space -= count
        if space == 0:
            space, finished = row_len, len(pieces)
    if finished:
        return pieces[:finished]
    return [*pieces, (PADDING, 0, space)] if pieces else []


def bestfit_pad(lengths: Sequence[int], row_len: int) -> list[Piece]:
    """Pieces, in order, whose cells with their padding fill whole rows of `row_len`.

    The largest document that fits goes in; when none fits, the rest of the row is padding. A document longer than a
    row fills one with its beginning.
    """
    lengths = [min(length, row_len) for length in lengths]
    shelf, pieces, space = _Shelf(lengths), list[Piece](), row_len
    while len(shelf):
        document = shelf.take_largest(space)
        if document is None:
            pieces.append((PADDING, 0, space))
            space = row_len
        else:
            pieces.append((document, 0, lengths[document]))
            space = space - lengths[document] or row_len
    if space < row_len:
        pieces.append((PADDING, 0, space))
    return pieces


class _Shelf:
    """Documents sorted by length that can be taken out: the largest that fits, the shortest, or the longest.

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

    def take_longest(self) -> int:
        return self._take(self._find(len(self._order)))

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
