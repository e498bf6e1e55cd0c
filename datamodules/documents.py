"""Documents of one window as two flat arrays: all token ids one after another, and where each document begins.

This is how the token cache holds them on disk (an Arrow list array is the same two arrays), so a window from the cache
is two views of a mapped file; and packing works on whole arrays, never on one Python object for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[Any]
"""One-dimensional: uint16, uint32, or int32 with negative numbers, `~id` being read but not learnt (vnc/rows.py)."""


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents that each begin with BOS. One that holds nothing has no tokens at all; packing passes it over."""

    tokens: Tokens
    starts: npt.NDArray[np.int64]
    """(documents + 1): document d is tokens[starts[d] : starts[d + 1]]."""
    left_out: int = 0
    """Documents of the source that are not among these, since nothing could be learnt from them."""

    @classmethod
    def of(cls, documents: Sequence[Tokens], left_out: int = 0) -> Documents:
        """From one array for each document, all of one dtype."""
        starts = np.zeros(len(documents) + 1, dtype=np.int64)
        np.cumsum([len(document) for document in documents], out=starts[1:])
        tokens = np.concatenate(documents) if documents else np.empty(0, dtype=np.int32)
        return cls(tokens, starts, left_out)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, document: int) -> Tokens:
        return self.tokens[self.starts[document] : self.starts[document + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts)
