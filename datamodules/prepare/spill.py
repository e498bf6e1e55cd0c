"""Pass 1: documents are dealt to spill files by ranges of their keys, and how far that has come is on the disk.

A spill is a file of Arrow streams one after another (columns key, source, text), zstd within. Documents gather in
memory and go out to all spills together; then the spills are flushed, and `spilled.json` notes their lengths and how
many records of which file they hold. A run that goes on cuts every spill back to its noted length.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.durable import write_json
from datamodules.prepare import order
from datamodules.prepare.batches import MOST_BYTES
from vnc.errors import UserError

COMMIT_BYTES = 256_000_000
"""Text that gathers in memory, and the most that a crash makes read again."""
MOST_ARRAYS = 50_000  # that gather, however short
STATE = "spilled.json"
SCHEMA = pa.schema([("key", pa.uint64()), ("source", pa.int32()), ("text", pa.large_string())])
_WRITERS = 4


@dataclass
class Spilled:
    """How far pass 1 has come; JSON-able."""

    file: int = 0
    """The file being read."""
    records: int = 0
    """Of that file, that are in the spills or left out."""
    documents: int = 0
    """In the spills."""
    left_out: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)
    """Bytes of each spill."""
    rows: list[int] = field(default_factory=list)
    """Documents of each spill."""
    complete: bool = False


class Spiller:
    """Deals documents to spill files in `folder`, from where an earlier run has come to."""

    def __init__(self, folder: Path, spills: int, seed: int) -> None:
        self._folder, self._spills, self._seed = folder, spills, seed
        self.state = read_state(folder, spills)
        self._gathered: list[pa.RecordBatch] = []
        self._bytes = 0
        self._cut_back()

    def add(self, texts: pa.Array, file: int, shown: str) -> None:
        """Documents of source file number `file`: large_string (n,) without nulls."""
        if not len(texts):
            return
        lengths = pc.binary_length(texts)
        if pc.max(lengths).as_py() > MOST_BYTES:
            raise UserError(f"{shown}: a document of {pc.max(lengths).as_py():,} bytes; the most is 2 GiB, split it")
        first = self.state.documents
        source = pa.array(np.full(len(texts), file, dtype=np.int32))
        keys = pa.array(order.keys(first, len(texts), self._seed))
        self._gathered.append(pa.record_batch([keys, source, texts], schema=SCHEMA))
        self.state.documents += len(texts)
        self._bytes += pc.sum(lengths).as_py()

    @property
    def due(self) -> bool:
        """Whether enough has gathered for a commit."""
        return self._bytes >= COMMIT_BYTES or len(self._gathered) >= MOST_ARRAYS

    def commit(self, file: int, records: int, left_out: dict[str, int], complete: bool = False) -> None:
        """Everything added is on the disk when this returns, and noted: `records` of file number `file`."""
        if self._gathered:
            self._deal(pa.Table.from_batches(self._gathered).combine_chunks())
            self._gathered, self._bytes = [], 0
        self.state.file, self.state.records = file, records
        self.state.left_out, self.state.complete = dict(left_out), complete
        write_json(self._folder / STATE, asdict(self.state))

    def _deal(self, table: pa.Table) -> None:
        spill = order.spill_of(table.column("key").to_numpy(), self._spills)
        by_spill = np.argsort(spill, kind="stable")
        sorted_table = table.take(pa.array(by_spill)) if self._spills > 1 else table
        bounds = np.searchsorted(spill[by_spill], np.arange(self._spills + 1))
        filled = [number for number in range(self._spills) if bounds[number] < bounds[number + 1]]

        def append(number: int) -> tuple[int, int]:
            part = sorted_table.slice(bounds[number], bounds[number + 1] - bounds[number])
            return number, _append(spill_path(self._folder, number), part)

        with ThreadPoolExecutor(_WRITERS) as writers:  # compressing and flushing leave Python to the others
            for number, length in writers.map(append, filled):
                self.state.lengths[number] = length
                self.state.rows[number] += int(bounds[number + 1] - bounds[number])

    def _cut_back(self) -> None:
        for number, length in enumerate(self.state.lengths):
            path = spill_path(self._folder, number)
            there = path.stat().st_size if path.exists() else 0
            if there < length:
                if self.state.complete and there == 0:
                    continue  # its shard is finished
                raise UserError(f"{path}: {there} bytes, but {length} were written before the interruption; remove "
                                f"{self._folder.parent} and start again")  # fmt: skip
            if there > length:
                os.truncate(path, length)


def read_state(folder: Path, spills: int) -> Spilled:
    """What the last commit in `folder` noted; a fresh state where there was none."""
    path = folder / STATE
    if not path.exists():
        return Spilled(lengths=[0] * spills, rows=[0] * spills)
    return Spilled(**json.loads(path.read_text(encoding="utf-8")))


def spill_path(folder: Path, number: int) -> Path:
    return folder / f"spill_{number:05d}.arrows"


def read_spill(folder: Path, number: int) -> pa.Table:
    """All of one spill, sorted by key: columns key, source, text."""
    path = spill_path(folder, number)
    table = pa.Table.from_batches(list(_batches(path)), SCHEMA).combine_chunks()
    return table.take(pc.array_sort_indices(table.column("key").combine_chunks()))


def _append(path: Path, table: pa.Table) -> int:
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))
    with path.open("ab") as file:
        with pa.ipc.new_stream(file, SCHEMA, options=options) as writer:
            writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return
    with path.open("rb") as file:
        while file.tell() < size:
            with pa.ipc.open_stream(file) as stream:
                yield from stream
