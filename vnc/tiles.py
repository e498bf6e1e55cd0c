"""Tiles: a chain of cheap operations over a tensor of many megabytes, done piece by piece.

Each operation reads and writes its tensor once. Over all of it, that is a trip to memory and back for every operation
of the chain; over a piece that fits a core's cache, only the first read and the last write are.
"""

from __future__ import annotations

from collections.abc import Iterator

TILE_BYTES = 2**21  # of one tensor of the chain, which holds two or three at a time


def tiles(count: int, bytes_each: int) -> Iterator[slice]:
    """Slices that cover `count` items of `bytes_each`, as many together as a tile holds, one at least."""
    size = max(1, TILE_BYTES // max(1, bytes_each))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
