"""Step batches: shapes, ranks, workers; validation tables."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast, get_args
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import streaming
from datamodules.documents import Documents
from datamodules.lanes import Position, merge, start
from datamodules.packing import Packing
from datamodules.streaming import PackedWindows, StepBatches, TrainingRows, ValidationBatches, first_rows
from vnc.errors import UserError
from vnc.rows import StepBatch, inputs_and_targets

BOS = 7
LANES = 16


@dataclass(frozen=True)
class Spelled:
    """Two to six documents in a window, which spell out where they are from; `broken` windows raise."""

    count: int = 20
    broken: int = -1
    empty: bool = False
    name: str = "documents"

    def documents(self, epoch: int, window: int) -> Documents:
        if window == self.broken:
            raise UserError("shard 3: broken")
        if self.empty:
            return Documents.of([])
        sizes = [3 + (epoch + window * 3 + k * k) % 9 for k in range(2 + (epoch + window) % 5)]
        return Documents.of(
            [np.array([BOS, 100 + epoch, 1000 + window, *range(10, 10 + n)], dtype=np.uint16) for n in sizes]
        )


def batches(steps: int, **options: Any) -> StepBatches:
    windows = PackedWindows(Spelled(), "bestfit_crop", 9, BOS)
    return StepBatches(windows, 5, start(LANES), steps=steps, micro_batches=2, device_batch_size=2, **options)


@contextmanager
def pretended_workers() -> Iterator[None]:
    """DataLoader's workers without processes: each reads in this one, and they hand over their shares by turns."""

    def loader(rows: Any, num_workers: int, **_: Any) -> Iterator[Any]:
        streams = []
        for worker in range(num_workers):
            info = SimpleNamespace(id=worker, num_workers=num_workers)
            with patch.object(streaming, "get_worker_info", return_value=info):
                streams.append(iter(rows))
        for step in zip(*streams, strict=True):
            yield from step

    with patch.object(streaming, "DataLoader", loader):
        yield


def numbers(found: list[StepBatch]) -> list[Any]:
    return [batch.rows.tolist() for batch in found]


@given(
    stop=st.integers(0, 12),
    more=st.integers(0, 6),
    worlds=st.tuples(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8])),
    workers=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    packing=st.sampled_from(get_args(Packing)),
    row_len=st.integers(5, 20),
    rows_per_step=st.sampled_from([16, 32, 48]),
)
@settings(max_examples=200, deadline=None)
def test_interrupted_anywhere_the_rows_after_resume_are_the_uninterrupted_ones(
    stop: int,
    more: int,
    worlds: tuple[int, int],
    workers: tuple[int, int],
    packing: Packing,
    row_len: int,
    rows_per_step: int,
) -> None:
    """Over lanes, windows, epochs, world sizes, workers and packings. Row i of a step is checked to be row i of the
    global order, whoever read it."""
    windows = PackedWindows(Spelled(), packing, row_len, BOS)

    def run(world: int, workers: int, steps: int, position: Any) -> tuple[list[list[Any]], Any]:
        with pretended_workers():
            ranks = [
                list(StepBatches(windows, 5, position, steps=steps, micro_batches=2, rank=rank, world=world,
                                 device_batch_size=rows_per_step // world // 2, workers=workers, threads=2))
                for rank in range(world)
            ]  # fmt: skip
        found = []
        for step in zip(*ranks, strict=True):
            rows = np.empty((rows_per_step, row_len), dtype=np.int32)
            for rank, batch in enumerate(step):  # row i is in micro-batch i % (world x 2): vnc/module.py relies on it
                for micro_batch in range(2):
                    rows[rank + world * micro_batch :: 2 * world] = batch.rows[micro_batch]
            found.append(rows.tolist())
        return found, merge([cast(Position, one[-1].position) for one in ranks]) if steps else position

    expected, _ = run(1, 0, stop + more, start(LANES))
    first, position = run(worlds[0], workers[0], stop, start(LANES))
    rest, _ = run(worlds[1], workers[1], more, json.loads(json.dumps(position)))
    assert first + rest == expected and len(expected) == stop + more


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_real_workers_deliver_the_same_batches_and_positions(workers: int) -> None:
    expected, found = list(batches(7)), list(batches(7, workers=workers))
    assert numbers(found) == numbers(expected)
    assert [batch.position for batch in found] == [batch.position for batch in expected]


def test_workers_share_the_packing_between_them() -> None:
    """Together they open the windows that one reader opens, each once."""
    alone, shared = list(batches(30)), list(batches(30, workers=2))
    assert shared[-1].shares == alone[-1].shares and alone[-1].shares is not None
    assert alone[-1].shares["cropped"] > 0


def test_a_batch_has_the_shape_and_the_type_of_the_contract() -> None:
    first, second = batches(2)
    assert first.rows.dtype == torch.int32 and first.rows.shape == (2, 2, 9) and first.rows.is_contiguous()
    assert (first.rows[..., 0] == BOS).all()
    before = second.rows.clone()
    first.rows.zero_()  # batches share no memory with one another or with the reader
    assert torch.equal(second.rows, before) and torch.equal(list(batches(2))[1].rows, before)
    assert first.position is not None and first.position["next_row"] == 4


def test_rows_can_be_read_in_processes_that_share_nothing() -> None:
    rows = TrainingRows(
        PackedWindows(Spelled(), "concat", 9, BOS),
        5,
        start(LANES),
        steps=3,
        rows_per_step=8,
        rank=0,
        world=1,
        threads=1,
    )
    sent = pickle.loads(pickle.dumps(rows))
    assert [share.rows.tolist() for share in sent] == [share.rows.tolist() for share in rows]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_user_error_in_a_worker_arrives_as_one_line(workers: int) -> None:
    windows = PackedWindows(Spelled(broken=4), "bestfit_crop", 9, BOS)
    stream = StepBatches(windows, 5, start(LANES), steps=50, micro_batches=1, device_batch_size=4, workers=workers)
    with pytest.raises(UserError, match=r"\Ashard 3: broken\Z"):
        list(stream)


@given(st.integers(1, 40), st.integers(1, 8), st.sampled_from([1, 2, 4, 8]))
@settings(deadline=None)
def test_validation_deals_every_row_to_one_rank_and_pads_with_what_no_metric_counts(
    count: int, device_batch_size: int, world: int
) -> None:
    rows = np.arange(count * 5, dtype=np.int32).reshape(count, 5)
    ranks = [
        list(ValidationBatches(rows, BOS, device_batch_size=device_batch_size, rank=rank, world=world))
        for rank in range(world)
    ]
    assert len({len(one) for one in ranks}) == 1
    assert {tuple(batch.rows.shape) for one in ranks for batch in one} == {(1, device_batch_size, 5)}
    dealt = [row for one in ranks for batch in one for row in batch.rows[0].tolist() if row[1] >= 0]
    assert sorted(dealt) == rows.tolist()
    targets = [inputs_and_targets(batch.rows)[1] for one in ranks for batch in one]
    assert sum(int((target >= 0).sum()) for target in targets) == count * 4  # padding adds no target
    assert all(batch.position is None for one in ranks for batch in one)


def test_validation_rows_are_the_first_ones_and_all_where_there_are_fewer() -> None:
    windows = PackedWindows(Spelled(), "bestfit_crop", 9, BOS)
    everything = first_rows(windows, 10_000)
    in_order = np.concatenate([windows.rows(0, window)[0] for window in range(20)])
    assert sorted(everything.tolist()) == sorted(in_order.tolist())
    assert everything.tolist() != in_order.tolist()  # a packed window begins with its long documents
    few = first_rows(windows, 10)
    one = len(windows.rows(0, 0)[0])
    assert len(few) == 10 and few[:one].tolist() == everything[:one].tolist()
    assert sorted(few[:one].tolist()) == sorted(windows.rows(0, 0)[0].tolist())
    with pytest.raises(UserError, match="documents: all documents are empty"):
        first_rows(PackedWindows(Spelled(empty=True), "bestfit_crop", 9, BOS), 10)
