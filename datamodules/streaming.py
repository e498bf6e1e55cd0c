"""From windows of documents to step batches: the torch side of the reader.

`PackedWindows` turns a window's documents into rows, `StepBatches` is the stream of training batches from a position,
and `ValidationBatches` deals a fixed table of rows to the ranks. All three can be sent to DataLoader workers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from datamodules.lanes import Position, RankReader, Windows, shuffled
from datamodules.packing import Packing, Row, pack
from vnc.errors import UserError
from vnc.rows import StepBatch


class DocumentWindows(Protocol):
    """What a source of data has to offer: documents, by window."""

    @property
    def name(self) -> str:
        """What the documents are, for messages."""
        ...

    @property
    def count(self) -> int:
        """Windows in an epoch."""
        ...

    def documents(self, epoch: int, window: int) -> list[Row]:
        """The non-empty documents of one window as int32 token arrays that start with BOS (negative: not learnt)."""
        ...


@dataclass(frozen=True, eq=False)
class PackedWindows:
    """The windows of a source, packed."""

    source: DocumentWindows
    packing: Packing
    row_len: int
    """sequence_len + 1."""
    bos_id: int

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def count(self) -> int:
        return self.source.count

    def rows(self, epoch: int, window: int) -> Row:
        rows, report = pack(self.source.documents(epoch, window), self.row_len, self.bos_id, self.packing)
        if self.packing == "bestfit_pad" and report.shortened:
            warnings.warn(f"{self.name}: some are longer than the context of {self.row_len - 1} tokens and are cut",
                          stacklevel=2)  # fmt: skip
        return rows


class StepBatches(IterableDataset[StepBatch]):
    """The training batches of one rank: `steps` of them from `position` on.

    With n DataLoader workers, worker w makes the batches w, w + n, w + 2n, ..., and DataLoader puts them in order.
    Every worker packs every window, since only a packed window knows how many rows it has: one worker takes the work
    off the training process, more of them do not share it.
    """

    def __init__(
        self,
        windows: Windows,
        seed: int,
        position: Position,
        *,
        steps: int,
        micro_batches: int,
        device_batch_size: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._windows, self._seed, self._position = windows, seed, position
        self._steps, self._shape = steps, (device_batch_size, micro_batches, windows.row_len)
        self._rank, self._world = rank, world

    def __iter__(self) -> Iterator[StepBatch]:
        worker = get_worker_info()
        if worker is None:
            return self._batches(0, 1)
        return self._batches_or_error(worker.id, worker.num_workers)

    def _batches(self, worker: int, workers: int) -> Iterator[StepBatch]:
        reader = RankReader(self._windows, self._seed, self._rank, self._world, self._position)
        rows_per_step = self._shape[0] * self._shape[1] * self._world
        for step in range(self._steps):
            if step % workers != worker:
                reader.skip(rows_per_step)
                continue
            # Row i of a step is in its micro-batch i % (world * micro_batches), so the same rows are together in one
            # whatever the number of ranks.
            rows = torch.from_numpy(reader.read(rows_per_step)).view(self._shape).transpose(0, 1).contiguous()
            yield StepBatch(rows, cast(dict[str, Any], reader.position))

    def _batches_or_error(self, worker: int, workers: int) -> Iterator[StepBatch]:
        """In a worker a UserError is handed over in place of a batch, and `RowDataModule` raises it: DataLoader itself
        would bury its one line under the worker's traceback."""
        try:
            yield from self._batches(worker, workers)
        except UserError as error:
            yield cast(StepBatch, error)


class ValidationBatches(IterableDataset[StepBatch]):
    """Row i of a table goes to rank `i % world`, in batches (1, device_batch_size, row_len).

    All ranks have the same number of batches of the same shape: what is missing is padding, which no metric counts.
    """

    def __init__(self, rows: Row, bos_id: int, *, device_batch_size: int, rank: int = 0, world: int = 1) -> None:
        batches = -(-len(rows) // (device_batch_size * world))
        table = np.full((batches * device_batch_size, rows.shape[1]), ~bos_id, dtype=np.int32)
        mine = rows[rank::world]
        table[: len(mine)] = mine
        self._batches = torch.from_numpy(table).view(batches, 1, device_batch_size, -1)

    def __iter__(self) -> Iterator[StepBatch]:
        return (StepBatch(rows, None) for rows in self._batches)


def first_rows(windows: Windows, rows: int) -> Row:
    """The first `rows` rows of the windows in order, or all if there are fewer. Within a window they are shuffled, so
    that the cut falls on short and long documents alike; whatever a run's seed, they are the same."""
    parts, missing = [np.empty((0, windows.row_len), dtype=np.int32)], rows
    for window in range(windows.count):
        packed = windows.rows(0, window)
        parts.append(packed[shuffled(len(packed), window)[:missing]])
        missing -= len(parts[-1])
        if not missing:
            break
    chosen = np.concatenate(parts)
    if not len(chosen):
        raise UserError(f"{windows.name}: all documents are empty")
    return chosen
