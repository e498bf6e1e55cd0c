"""Pass 2: spill after spill is sorted and written as a Parquet shard; each finished one is noted in a journal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamodules.durable import append_line, read_lines, write_whole
from datamodules.manifest import ShardEntry
from datamodules.prepare.order import ShardPlan, row_group_stops
from datamodules.prepare.spill import read_spill, spill_path
from datamodules.progress import Progress
from vnc.errors import UserError

JOURNAL = "shards.jsonl"
SCHEMA = pa.schema([("text", pa.string()), ("source", pa.string())])
_GROUP_BYTES = 512_000_000  # of text in a row group, whatever --row_group says: readers hold one in memory
_CHUNK = 1 << 22


def finished(out: Path, state: Path) -> dict[str, ShardEntry]:
    """The shards that an earlier run finished, by name. UserError if one has changed since, or is gone."""
    entries = {line["name"]: ShardEntry(**line) for line in read_lines(state / JOURNAL)}
    for entry in entries.values():
        path = out / entry.name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise UserError(f"{path}: was finished before the interruption, but is now gone or changed; remove {out} "
                            "and start again")  # fmt: skip
    return entries


def write_shards(
    out: Path, state: Path, plans: Sequence[ShardPlan], names: Sequence[str], row_group: int
) -> list[ShardEntry]:
    """Write the shards that are not finished; `names` are those of the source files. The spills are used up."""
    done = finished(out, state)
    left = [plan for plan in plans if plan.name not in done]
    sizes = {plan.number: sum(_size(spill_path(state, spill)) for spill, _, _ in plan.pieces) for plan in left}
    with Progress("writing shards", sum(sizes.values())) as progress:
        for position, plan in enumerate(left):
            entry = _write_shard(out, state, plan, names, row_group)
            append_line(state / JOURNAL, vars(entry))
            done[plan.name] = entry
            needed = {spill for later in left[position + 1 :] for spill, _, _ in later.pieces}
            for spill, _, _ in plan.pieces:
                if spill not in needed:
                    spill_path(state, spill).unlink(missing_ok=True)
            progress.advance(sizes[plan.number])
    return [done[plan.name] for plan in plans]


def _write_shard(out: Path, state: Path, plan: ShardPlan, names: Sequence[str], row_group: int) -> ShardEntry:
    parts = [read_spill(state, spill)[first:stop] for spill, first, stop in plan.pieces]
    table = pa.concat_tables(parts)
    write_whole(out / plan.name, lambda file: _write_rows(file, table, names, row_group), state / f"{plan.name}.part")
    return entry_of(out, plan.name, table.num_rows)


def _write_rows(file: BinaryIO, table: pa.Table, names: Sequence[str], row_group: int) -> None:
    sizes = pc.binary_length(table.column("text")).to_numpy()
    first = 0
    with parquet_writer(file, SCHEMA, use_dictionary=["source"]) as writer:
        for stop in row_group_stops(sizes.astype(np.int64), row_group, _GROUP_BYTES):
            rows = table[first:stop]
            sources = [names[number] for number in rows.column("source").to_pylist()]
            texts = rows.column("text").cast(pa.string()).combine_chunks()
            writer.write_table(pa.table([texts, pa.array(sources, pa.string())], schema=SCHEMA), stop - first)
            first = stop


def parquet_writer(file: BinaryIO, schema: pa.Schema, **more: Any) -> pq.ParquetWriter:
    """zstd pages with checksums: what all prepared files are written with."""
    return pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True, **more)


def entry_of(out: Path, name: str, rows: int) -> ShardEntry:
    """Size and checksum of a file just written."""
    digest, path = hashlib.sha256(), out / name
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return ShardEntry(name, rows, path.stat().st_size, digest.hexdigest())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
