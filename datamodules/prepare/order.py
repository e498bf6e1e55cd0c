"""Where each document goes: the shuffle as a sort by a seeded hash, and how the sorted documents are cut into shards.

The key of document `number` is a permutation of the 64-bit integers, chosen by the seed: no two documents share one,
and to sort by it is to shuffle. A spill holds the documents of one range of keys; spill after spill, each sorted, is
the whole order. Pure arithmetic, no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vnc.errors import UserError

DEFAULT_VALIDATION_SHARE = 20
MOST_DEFAULT_VALIDATION = 10_000


def keys(first: int, count: int, seed: int) -> npt.NDArray[np.uint64]:
    """Keys of the documents `first` to `first + count`: uint64 (count,).

    The mixing steps are those of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
    generators"): each is invertible, so keys never collide."""
    start = _mix(np.array([seed], dtype=np.uint64) + np.uint64(1))[0]
    numbers = np.arange(first, first + count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return _mix(_mix(numbers + start) ^ start)


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def spill_of(keys: npt.NDArray[np.uint64], spills: int) -> npt.NDArray[np.int64]:
    """Which spill each key belongs to, int64 (n,): equal ranges of the keys, ascending."""
    return (((keys >> np.uint64(32)) * np.uint64(spills)) >> np.uint64(32)).astype(np.int64)


def spill_count(compressed_bytes: int, shard_mb: int) -> int:
    """Training shards, and so spills, for data that is estimated to take so many bytes as Parquet."""
    return max(1, round(compressed_bytes / (shard_mb * 1_000_000)))


@dataclass(frozen=True)
class ShardPlan:
    """One output shard: documents `first` to `stop` of each of some spills, spill after spill."""

    number: int
    pieces: tuple[tuple[int, int, int], ...]
    """(spill, first, stop), in documents of the sorted spill."""

    @property
    def name(self) -> str:
        return f"shard_{self.number:05d}.parquet"

    @property
    def rows(self) -> int:
        return sum(stop - first for _, first, stop in self.pieces)


def plan_shards(spilled: list[int], val_documents: int | None) -> list[ShardPlan]:
    """Cut sorted spills of so many documents into shards: one for each spill, and of the last documents of all a
    validation shard.

    `val_documents` None takes a twentieth, 10,000 at most. UserError where that leaves nothing to train on."""
    total = sum(spilled)
    if total < 2:
        raise UserError(f"the sources hold {'one document' if total else 'no documents'} that can be used; at least "
                        "two are needed, one to train on and one for validation")  # fmt: skip
    held = val_documents or min(MOST_DEFAULT_VALIDATION, max(1, total // DEFAULT_VALIDATION_SHARE))
    if held >= total:
        raise UserError(f"--val_documents {held}: the sources hold {total} documents, which leaves none to train on; "
                        "name fewer")  # fmt: skip
    training, validation, before = [], [], 0
    for spill, documents in enumerate(spilled):
        cut = min(documents, max(0, total - held - before))  # the first document of this spill that is validation
        if cut:
            training.append(((spill, 0, cut),))
        if cut < documents:
            validation.append((spill, cut, documents))
        before += documents
    return [ShardPlan(number, pieces) for number, pieces in enumerate([*training, tuple(validation)])]


def row_group_stops(sizes: npt.NDArray[np.int64], rows: int, max_bytes: int) -> list[int]:
    """Where row groups end: each has `rows` documents, fewer if they would exceed `max_bytes`, one at least.

    Args:
        sizes: bytes of each document, int64 (n,)."""
    stops, first, ends = [], 0, np.cumsum(sizes)
    while first < len(sizes):
        begun = int(ends[first - 1]) if first else 0
        fits = int(np.searchsorted(ends, begun + max_bytes, side="right"))
        first = min(first + rows, max(fits, first + 1), len(sizes))
        stops.append(first)
    return stops
