"""From windows of documents to step batches: the torch side of the reader.

`PackedWindows` turns a window's documents into rows, `TrainingRows` reads one process's share of each step from a
position, `StepBatches` makes step batches of them, and `ValidationBatches` deals a fixed table of rows to the ranks.

A DataLoader worker is a rank of its own as far as rows are concerned: with n workers each rank's lanes are dealt to
them, each packs only the windows of its own lanes, and their shares of a step are put together in the global order.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datamodules.documents import Documents, Tokens
from datamodules.lanes import Position, RankReader, Windows, combine, shuffled
from datamodules.packing import Packing, PackingReport, Row, pack
from datamodules.read_ahead import ReadAhead
from datamodules.tasks.learnable import learnable_in_row
from vnc.errors import UserError
from vnc.rows import StepBatch


class DocumentWindows(Protocol):
    """What a source of data has to offer: documents, by window. Asked by several threads at once."""

    @property
    def name(self) -> str:
        """What the documents are, for messages."""
        ...

    @property
    def count(self) -> int:
        """Windows in an epoch."""
        ...

    def documents(self, epoch: int, window: int) -> Documents:
        """The documents of one window, each beginning with BOS; the same for the same arguments."""
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

    def rows(self, epoch: int, window: int) -> tuple[Tokens, PackingReport]:
        documents = self.source.documents(epoch, window)
        if self.packing == "bestfit_pad":
            documents = learnable_in_row(documents, self.row_len)
        return pack(documents, self.row_len, self.bos_id, self.packing)

    def expect(self, epoch: int, window: int) -> None:
        """Nothing is read ahead here."""


class Share(NamedTuple):
    """One reader's rows of one step."""

    rows: torch.Tensor
    """int32 (rows, row_len)."""
    position: Position
    """After this step, of this reader's lanes."""
    report: PackingReport
    """Of all windows that this reader has opened."""


class TrainingRows(IterableDataset[Share]):
    """The shares of `steps` steps of `rows_per_step` rows (over all ranks), from `position` on. Within DataLoader
    workers, those of the worker's lanes."""

    def __init__(
        self,
        windows: Windows,
        seed: int,
        position: Position,
        *,
        steps: int,
        rows_per_step: int,
        rank: int,
        world: int,
        threads: int,
    ) -> None:
        self._windows, self._seed, self._position = windows, seed, position
        self._steps, self._rows_per_step = steps, rows_per_step
        self._rank, self._world, self._threads = rank, world, threads

    def __iter__(self) -> Iterator[Share]:
        worker = get_worker_info()
        if worker is None:
            return self._shares(self._rank, self._world)
        rank, world = self._rank + self._world * worker.id, self._world * worker.num_workers
        return self._shares_or_error(rank, world)

    def _shares(self, rank: int, world: int) -> Iterator[Share]:
        ahead = ReadAhead(self._windows, self._threads)
        try:
            reader = RankReader(ahead, self._seed, rank, world, self._position)
            for _ in range(self._steps):
                rows = torch.from_numpy(reader.read(self._rows_per_step))
                yield Share(rows, reader.position, reader.report)
        finally:
            ahead.close()

    def _shares_or_error(self, rank: int, world: int) -> Iterator[Share]:
        """In a worker a UserError is handed over in place of a share, and `StepBatches` raises it: DataLoader itself
        would bury its one line under the worker's traceback."""
        try:
            yield from self._shares(rank, world)
        except UserError as error:
            yield cast(Share, error)


class StepBatches:
    """The training batches of one rank. Each iteration begins at `position`.

    workers: 0 reads in this process; n reads in n processes beside it.
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
        workers: int = 0,
        threads: int = 1,
    ) -> None:
        self._shape = device_batch_size, micro_batches, windows.row_len
        self._rank, self._world, self._workers = rank, world, workers
        self._rows_per_step = device_batch_size * micro_batches * world
        self._rows = TrainingRows(windows, seed, position, steps=steps, rows_per_step=self._rows_per_step, rank=rank,
                                  world=world, threads=threads)  # fmt: skip

    def __iter__(self) -> Iterator[StepBatch]:
        shares: Iterator[Any] = iter(self._rows)
        if self._workers:
            # Not forked: a copy of a process with threads may find a lock closed that nobody will open.
            shares = iter(DataLoader(self._rows, batch_size=None, num_workers=self._workers, collate_fn=_as_is,
                                     multiprocessing_context="forkserver",
                                     worker_init_fn=_leave_sigterm_to_the_trainer))  # fmt: skip
        for step in zip(*[shares] * max(1, self._workers), strict=True):  # one share of each worker, in their order
            for share in step:
                if isinstance(share, UserError):
                    raise share
            yield self._batch(step)

    def _batch(self, shares: Sequence[Share]) -> StepBatch:
        position, workers = combine([share.position for share in shares]), len(shares)
        began = position["next_row"] - self._rows_per_step
        first = (began + (self._rank - began) % self._world) // self._world  # the rank's first row, among its own
        rows = torch.empty((self._shape[0] * self._shape[1], self._shape[2]), dtype=torch.int32)
        for worker, share in enumerate(shares):
            rows[(worker - first) % workers :: workers] = share.rows
        # Row i of a step is in its micro-batch i % (world * micro_batches), so the same rows are together in one
        # whatever the number of ranks.
        batch = rows.view(self._shape).transpose(0, 1).contiguous()
        report = sum((share.report for share in shares), PackingReport())
        return StepBatch(batch, cast(dict[str, Any], position), report.shares())


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
        packed, _ = windows.rows(0, window)
        parts.append(packed[shuffled(len(packed), window)[:missing]].astype(np.int32))
        missing -= len(parts[-1])
        if not missing:
            break
    chosen = np.concatenate(parts)
    if not len(chosen):
        raise UserError(f"{windows.name}: all documents are empty")
    return chosen


def _as_is(share: Any) -> Any:
    """In place of DataLoader's conversion, which would walk through every number of the position."""
    return share


def _leave_sigterm_to_the_trainer(worker: int) -> None:
    """A signal to all processes asks the training process to save and end; it ends its workers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
