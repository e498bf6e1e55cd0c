"""Step batches: shapes, ranks, workers; validation tables."""

import pickle
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from datamodules import streaming
from datamodules.lanes import Position, merge, start
from datamodules.packing import Row
from datamodules.streaming import PackedWindows, StepBatches, ValidationBatches, first_rows
from vnc.errors import UserError
from vnc.rows import StepBatch, inputs_and_targets

BOS = 7
LANES = 8


@dataclass(frozen=True)
class Documents:
    """Two to six documents in a window, which spell out where they are from; `broken` windows raise."""

    count: int = 12
    broken: int = -1
    empty: bool = False
    name: str = "documents"

    def documents(self, epoch: int, window: int) -> list[Row]:
        if window == self.broken:
            raise UserError("shard 3: broken")
        if self.empty:
            return []
        sizes = [3 + (epoch + window * 3 + k * k) % 9 for k in range(2 + (epoch + window) % 5)]
        return [np.array([BOS, 100 + epoch, 1000 + window, *range(10, 10 + n)], dtype=np.int32) for n in sizes]


def batches(steps: int, position: Any = None, **where: Any) -> StepBatches:
    windows = PackedWindows(Documents(), "bestfit_crop", 9, BOS)
    return StepBatches(windows, 5, position or start(LANES), steps=steps, micro_batches=2, device_batch_size=2, **where)


def collect(stream: StepBatches, workers: int) -> list[StepBatch]:
    """What DataLoader makes of a stream with so many workers, without starting them: one batch of each by turns."""
    turns: list[Any] = [SimpleNamespace(id=worker, num_workers=workers) for worker in range(workers)] or [None]
    with patch.object(streaming, "get_worker_info", side_effect=turns):
        streams = [iter(stream) for _ in turns]
        found = []
        while streams:
            for one in list(streams):
                batch = next(one, None)
                if batch is None:
                    streams.remove(one)
                else:
                    found.append(batch)
        return found


def numbers(found: list[StepBatch]) -> list[Any]:
    return [batch.rows.tolist() for batch in found]


@given(
    stop=st.integers(0, 12),
    more=st.integers(0, 6),
    worlds=st.tuples(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8])),
    workers=st.integers(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_interrupted_anywhere_the_rows_after_resume_are_the_uninterrupted_ones(
    stop: int, more: int, worlds: tuple[int, int], workers: int
) -> None:
    """Over lanes, windows, epochs, world sizes and workers; a step has 32 rows whatever the world size."""

    def run(world: int, steps: int, position: Any) -> tuple[list[list[Any]], Any]:
        windows = PackedWindows(Documents(), "bestfit_crop", 9, BOS)
        ranks = [
            collect(StepBatches(windows, 5, position, steps=steps, micro_batches=1, device_batch_size=32 // world,
                                rank=rank, world=world), workers)
            for rank in range(world)
        ]  # fmt: skip
        steps_of_rows = [
            sorted(row for one in step for row in one.rows.flatten(0, 1).tolist()) for step in zip(*ranks, strict=True)
        ]
        return steps_of_rows, merge([cast(Position, one[-1].position) for one in ranks]) if steps else position

    expected, _ = run(1, stop + more, start(LANES))
    first, position = run(worlds[0], stop, start(LANES))
    rest, _ = run(worlds[1], more, position)
    assert first + rest == expected and len(expected) == stop + more


@pytest.mark.parametrize("workers", [1, 2])
def test_real_workers_deliver_the_same_batches_and_positions(workers: int) -> None:
    expected = list(batches(7))
    found = list(DataLoader(batches(7), batch_size=None, num_workers=workers, collate_fn=lambda batch: batch))
    assert numbers(found) == numbers(expected)
    assert [batch.position for batch in found] == [batch.position for batch in expected]


def test_a_batch_has_the_shape_and_the_type_of_the_contract() -> None:
    first, second = batches(2)
    assert first.rows.dtype == torch.int32 and first.rows.shape == (2, 2, 9) and first.rows.is_contiguous()
    assert (first.rows[..., 0] == BOS).all()
    before = second.rows.clone()
    first.rows.zero_()  # batches share no memory with one another or with the reader
    assert torch.equal(second.rows, before) and torch.equal(list(batches(2))[1].rows, before)
    assert first.position is not None and first.position["next_row"] == 4


def test_streams_can_be_sent_to_processes_that_share_nothing() -> None:
    stream = pickle.loads(pickle.dumps(batches(3)))
    assert numbers(list(stream)) == numbers(list(batches(3)))


def test_a_user_error_in_a_worker_arrives_as_one_line() -> None:
    windows = PackedWindows(Documents(broken=4), "bestfit_crop", 9, BOS)
    stream = StepBatches(windows, 5, start(LANES), steps=50, micro_batches=1, device_batch_size=4)
    found = list(DataLoader(stream, batch_size=None, num_workers=1, collate_fn=lambda batch: batch))
    assert isinstance(found[-1], UserError) and str(found[-1]) == "shard 3: broken"
    with pytest.raises(UserError, match="shard 3: broken"):
        list(stream)


def test_documents_longer_than_the_context_are_cut_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="longer than the context of 4"):
        PackedWindows(Documents(), "bestfit_pad", 5, BOS).rows(0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PackedWindows(Documents(), "bestfit_pad", 40, BOS).rows(0, 0)


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
    windows = PackedWindows(Documents(), "bestfit_crop", 9, BOS)
    everything = first_rows(windows, 10_000)
    in_order = np.concatenate([windows.rows(0, window) for window in range(12)])
    assert sorted(everything.tolist()) == sorted(in_order.tolist())
    assert everything.tolist() != in_order.tolist()  # a packed window begins with its long documents
    few = first_rows(windows, 10)
    one = len(windows.rows(0, 0))
    assert len(few) == 10 and few[:one].tolist() == everything[:one].tolist()
    assert sorted(few[:one].tolist()) == sorted(windows.rows(0, 0).tolist())
    with pytest.raises(UserError, match="documents: all documents are empty"):
        first_rows(PackedWindows(Documents(empty=True), "bestfit_crop", 9, BOS), 10)
