"""Many small requests at once, with progress.

A server that takes a tenth of a second to answer has told of a thousand files in seven seconds when sixteen ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from datamodules.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16


def in_parallel(what: str, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`function` of each item, in the order of the items. The first error ends it: what has not begun is left out."""
    results = []
    with ThreadPoolExecutor(min(THREADS, max(1, len(items))), thread_name_prefix=what) as pool:
        coming = [pool.submit(function, item) for item in items]
        try:
            with Progress(what, len(items), "items") as progress:
                for future in coming:
                    results.append(future.result())
                    progress.advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results
