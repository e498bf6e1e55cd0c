"""Batches made, and copied to the device, while the step before them is computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from vnc.rows import StepBatch

AHEAD = 3  # batches: enough to even out windows that end together, few enough to cost no memory
LEAVING_SECONDS = 5.0  # for a thread that waits for a disk or a server; it ends with the process anyway


class AheadOfTraining:
    """The same batches on `device`, drawn by a thread up to AHEAD batches before they are asked for.

    On CUDA the thread copies through pinned memory on a stream of its own, so a copy overlaps the step in progress.
    """

    def __init__(self, batches: Iterable[StepBatch], device: torch.device) -> None:
        self._batches, self._device = batches, device

    def __iter__(self) -> Iterator[StepBatch]:
        ready: queue.Queue[Any] = queue.Queue(AHEAD)
        left = threading.Event()  # nobody will ask for more
        thread = threading.Thread(target=self._fill, args=(ready, left), name="batches ahead", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if item.rows.is_cuda:  # its memory must not be used anew before the step on this stream is done
                    item.rows.record_stream(torch.cuda.current_stream(self._device))
                yield item
        finally:
            left.set()
            thread.join(LEAVING_SECONDS)

    def _fill(self, ready: queue.Queue[Any], left: threading.Event) -> None:
        """Put every batch, then None, or what went wrong."""
        stream: Any = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None  # type: ignore[no-untyped-call]
        batches = iter(self._batches)
        try:
            for batch in batches:
                if not _put(ready, left, self._on_device(batch, stream)):
                    return
            _put(ready, left, None)
        except BaseException as error:  # raised where the batch is asked for
            _put(ready, left, error)
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _on_device(self, batch: StepBatch, stream: Any) -> StepBatch:
        if stream is None:
            return batch
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            rows = batch.rows.pin_memory().to(self._device, non_blocking=True)
        stream.synchronize()  # only this thread waits
        return batch._replace(rows=rows)


def _put(ready: queue.Queue[Any], left: threading.Event, item: Any) -> bool:
    """Waits for room; False if nobody will ask for it."""
    while not left.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
