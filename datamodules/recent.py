"""What was made last, kept in memory: neighbouring windows lie in one row group, which is then decoded once.

Each process has its own, `RECENT`, for all its threads. It is bounded by bytes, not by entries, since one row group
may be a megabyte and the next one a gigabyte.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

T = TypeVar("T")

MAX_BYTES = 256 * 2**20


class Recent:
    """Values by key, the least recently used dropped first; safe for threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.forget()

    def forget(self) -> None:
        """Drops everything, also what other threads are making."""
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, Future[Any]] = {}
        self.nbytes = 0

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """The value of `key`; if it is not kept, `make` makes it and says how many bytes it takes.

        Threads that ask for one key at the same time make it once, and the others wait; what `make` raises, all of them
        raise. A value larger than `max_bytes` is handed out but not kept.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return cast(T, self._values[key][0])
            future = self._making.get(key)
            mine = future is None
            if future is None:
                future = self._making[key] = Future()
        if not mine:
            return cast(T, future.result())
        try:
            value, nbytes = make()
        except BaseException as error:
            with self._lock:
                self._making.pop(key, None)
            future.set_exception(error)
            raise
        with self._lock:
            self._making.pop(key, None)
            if nbytes <= self.max_bytes:
                self._values[key] = (value, nbytes)
                self.nbytes += nbytes
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._values.popitem(last=False)[1][1]
        future.set_result(value)
        return value


RECENT = Recent(MAX_BYTES)
# A forked DataLoader worker inherits neither the threads that were making values nor, it may be, an open lock.
os.register_at_fork(after_in_child=RECENT.forget)
