"""Windows made ready before they are asked for: read, tokenised and packed by threads while earlier ones are used.

Reading files, tiktoken, and numpy's copies run without Python's global lock, so the threads really run beside training.
What is read, and in which order it is handed out, never depends on them.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from datamodules.documents import Tokens
from datamodules.lanes import Windows
from datamodules.packing import PackingReport

MAX_THREADS = 8

Packed = tuple[Tokens, PackingReport]


class ReadAhead:
    """The same windows, prepared from the moment they are expected. Not to be sent to another process."""

    def __init__(self, windows: Windows, threads: int) -> None:
        self._windows = windows
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read ahead")
        self._coming: dict[tuple[int, int], Future[Packed]] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._windows.name

    @property
    def count(self) -> int:
        return self._windows.count

    @property
    def row_len(self) -> int:
        return self._windows.row_len

    def expect(self, epoch: int, window: int) -> None:
        with self._lock:
            if (epoch, window) not in self._coming:
                self._coming[epoch, window] = self._pool.submit(self._windows.rows, epoch, window)

    def rows(self, epoch: int, window: int) -> Packed:
        """The window's rows, waited for if they are on their way; what its preparation raised is raised here."""
        with self._lock:
            coming = self._coming.pop((epoch, window), None)
        if coming is None or coming.cancel():  # not begun: quicker done here
            return self._windows.rows(epoch, window)
        return coming.result()

    def close(self) -> None:
        """Drop what nobody will ask for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def threads_for(processes: int) -> int:
    """Threads for each of `processes` readers on this machine."""
    return max(1, min(MAX_THREADS, (os.cpu_count() or 1) // processes))
