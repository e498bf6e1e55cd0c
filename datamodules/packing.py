"""Packing: one window of documents becomes rows of one length.

A document is a run of token ids that starts with BOS, in the encoding of rows (vnc/rows.py: a negative number is read
but not learnt). A packing decides from the lengths alone which piece of which document goes where (datamodules/
bestfit.py); `pack` then copies every piece once and keeps account of what became of each token.

- bestfit_split: every row starts with BOS and is full; what does not fit goes on in a later row, behind a BOS of its
  own. Nothing is lost.
- bestfit_crop: every row starts with BOS and is full; what does not fit is dropped. nanochat's way.
- concat: all documents in one stream that is cut wherever a row ends. GPT-2's way.
- bestfit_pad: documents stay whole, and rows are padded. For conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from datamodules.bestfit import PADDING, Piece, bestfit_crop, bestfit_pad, bestfit_split
from datamodules.documents import Documents, Tokens

Row = npt.NDArray[np.int32]
Packing = Literal["bestfit_split", "bestfit_crop", "concat", "bestfit_pad"]

PLANS: dict[Packing, Callable[[Sequence[int], int], list[Piece]]] = {
    "bestfit_split": bestfit_split,
    "bestfit_crop": bestfit_crop,
    "bestfit_pad": bestfit_pad,
}


@dataclass(frozen=True)
class PackingReport:
    """What became of the tokens of the windows packed.

    tokens == kept + cropped, and cells (rows x row length) == kept + repeated + padded.
    """

    rows: int = 0
    cells: int = 0
    tokens: int = 0
    kept: int = 0
    repeated: int = 0
    """Cells with a token that another row has as well, or with a BOS put before the rest of a document."""
    padded: int = 0
    documents: int = 0
    shortened: int = 0
    """Documents of which some or all tokens were cropped."""
    left_out: int = 0
    """Documents from which nothing could be learnt, so that they were not packed at all."""

    @property
    def cropped(self) -> int:
        return self.tokens - self.kept

    def __add__(self, other: PackingReport) -> PackingReport:
        return PackingReport(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: PackingReport) -> PackingReport:
        return PackingReport(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def shares(self) -> dict[str, float]:
        """cropped as a share of all tokens; repeated and padded as shares of all cells; and documents left_out as a
        share of all documents."""
        return {
            "cropped": self.cropped / max(1, self.tokens),
            "repeated": self.repeated / max(1, self.cells),
            "padded": self.padded / max(1, self.cells),
            "left_out": self.left_out / max(1, self.documents + self.left_out),
        }


def pack(documents: Documents, row_len: int, bos_id: int, packing: Packing) -> tuple[Tokens, PackingReport]:
    """Packs documents into rows, and gives account.

    Returns (rows, row_len), row_len being sequence_len + 1, in the documents' own dtype, or in int32 where a row had
    to be padded with `~bos_id`, which is never learnt. Documents without tokens are passed over.
    """
    if packing == "concat":
        return _concat(documents, row_len, bos_id)
    kept = np.flatnonzero(documents.lengths)
    lengths: list[int] = documents.lengths[kept].tolist()
    starts: list[int] = documents.starts[kept].tolist()
    tokens = documents.tokens
    bos, padding = (np.full(row_len, number, dtype=np.int32) for number in (bos_id, ~bos_id))
    parts: list[Tokens] = []
    once, padded, added = 0, 0, 0  # cells with tokens, with padding, with a BOS before the rest of a document
    reached = [0] * len(lengths)  # how far into each document its tokens have been placed
    for document, first, count in PLANS[packing](lengths, row_len):
        if document == PADDING:
            parts.append(padding[:count])
            padded += count
            continue
        start = starts[document] + first
        if first:
            parts.append(bos[:1])
            added += 1
            count -= 1
        parts.append(tokens[start : start + count])
        once += max(0, first + count - max(first, reached[document]))
        reached[document] = max(reached[document], first + count)
    dtype = np.int32 if padded else tokens.dtype
    rows = np.concatenate(parts, dtype=dtype, casting="unsafe") if parts else np.empty(0, tokens.dtype)
    report = PackingReport(
        rows=rows.size // row_len,
        cells=rows.size,
        tokens=sum(lengths),
        kept=once,
        repeated=rows.size - once - padded,
        padded=padded,
        documents=len(lengths),
        shortened=sum(reach < length for reach, length in zip(reached, lengths, strict=True)),
        left_out=documents.left_out,
    )
    return rows.reshape(-1, row_len), report


def _concat(documents: Documents, row_len: int, bos_id: int) -> tuple[Tokens, PackingReport]:
    """Row i begins with the last token of row i - 1, so that every token but the first is a target once. The last row
    is moved back to end with the last token; a window that cannot fill one row is padded."""
    first, last = int(documents.starts[0]), int(documents.starts[-1])
    stream = documents.tokens[first:last]
    filled = int(np.count_nonzero(documents.lengths))
    padded = max(0, row_len - len(stream)) if len(stream) else 0
    if padded:
        stream = np.concatenate([stream, np.full(padded, ~bos_id)], dtype=np.int32, casting="unsafe")
    count = -(-(len(stream) - 1) // (row_len - 1)) if len(stream) else 0
    rows = np.empty((count, row_len), dtype=stream.dtype)
    if count:
        whole = np.lib.stride_tricks.sliding_window_view(stream, row_len)
        rows[:-1] = whole[:: row_len - 1][: count - 1]
        rows[-1] = stream[-row_len:]
    tokens = last - first
    return rows, PackingReport(
        rows=count,
        cells=rows.size,
        tokens=tokens,
        kept=tokens,
        repeated=rows.size - tokens - padded,
        padded=padded,
        documents=filled,
        left_out=documents.left_out,
    )
