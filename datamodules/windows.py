"""Shards cut into windows of neighbouring documents: what a lane tokenises and packs at a time.

`cut` decides from the row counts alone where each window begins; `TextWindows` reads the texts of one window, and of
the files only the row groups and the column that it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datamodules.parquet import Shard, read_texts
from vnc.errors import UserError

WINDOW_DOCUMENTS = 1_000
"""About one row group of FineWeb-Edu, so that a row group is read once an epoch. Large windows also crop less and
repeat less: of English text with 935 tokens a document at context 2,048, bestfit_crop drops 15.7, 14.5 and 11.0 percent
in windows of 128, 250 and 1,000 documents, and bestfit_split repeats 0.79, 0.41 and 0.09 percent."""
MANY_ROW_GROUPS = 8  # for each lane: then no lane gets over an eighth more row groups than another


def cut(row_groups: Sequence[int], lanes: int) -> npt.NDArray[np.int64]:
    """Where windows begin, counted in documents over all row groups: int64 (windows + 1), ascending, from 0 to all.

    With at least MANY_ROW_GROUPS row groups a lane, each row group is cut evenly into windows of about WINDOW_DOCUMENTS
    documents. With fewer, all documents are, across row groups, into a multiple of `lanes` windows, so that no lane is
    empty. Either way the cut depends on the data and `lanes` alone. There must be at least `lanes` documents.
    """
    groups = [rows for rows in row_groups if rows]
    total = sum(groups)
    if len(groups) < MANY_ROW_GROUPS * lanes:
        windows = lanes * max(1, round(total / (lanes * WINDOW_DOCUMENTS)))
        return np.arange(windows + 1, dtype=np.int64) * total // windows
    starts = [np.zeros(1, dtype=np.int64)]
    for rows, before in zip(groups, np.cumsum([0, *groups]), strict=False):
        parts = max(1, round(rows / WINDOW_DOCUMENTS))
        starts.append(before + np.arange(1, parts + 1) * rows // parts)
    return np.concatenate(starts)


@dataclass(frozen=True, eq=False)
class TextWindows:
    """The texts of some shards, by window."""

    name: str
    """What to call them in messages."""
    groups: tuple[tuple[Shard, int], ...]
    """(shard, row group) in order, those without rows left out."""
    group_starts: npt.NDArray[np.int64]
    """(row groups + 1): the first document of each row group, among all documents."""
    window_starts: npt.NDArray[np.int64]
    """(windows + 1): the first document of each window."""

    @classmethod
    def of(cls, name: str, shards: Iterable[Shard], lanes: int) -> TextWindows:
        """Raises UserError where there are fewer documents than lanes."""
        filled = [(shard, group, rows) for shard in shards for group, rows in enumerate(shard.row_groups) if rows]
        rows = [rows for _, _, rows in filled]
        if sum(rows) < lanes:
            raise UserError(f"{name}: {sum(rows)} documents cannot fill {lanes} lanes; set --data.lanes to "
                            f"{sum(rows)} or less, or add documents")  # fmt: skip
        groups = tuple((shard, group) for shard, group, _ in filled)
        return cls(name, groups, np.cumsum([0, *rows]), cut(rows, lanes))

    @property
    def count(self) -> int:
        return len(self.window_starts) - 1

    def texts(self, window: int) -> list[str]:
        """The documents of a window. Threads may call it at once: the way to have several row groups on their way from
        a server."""
        return [text for stretch in self.stretches(window) for text in read_texts(*stretch)]

    def stretches(self, window: int) -> Iterator[tuple[Shard, int, int, int]]:
        """(shard, row group, first, stop): where the documents of a window lie."""
        first, end = int(self.window_starts[window]), int(self.window_starts[window + 1])
        group = int(np.searchsorted(self.group_starts, first, side="right")) - 1
        while first < end:
            start, stop = int(self.group_starts[group]), int(self.group_starts[group + 1])
            yield *self.groups[group], first - start, min(end, stop) - start
            first, group = stop, group + 1
