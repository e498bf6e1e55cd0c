"""The shuffle as arithmetic: keys that never collide, spills that are ranges of them, shards that lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.prepare.order import keys, plan_shards, row_group_stops, spill_count, spill_of
from vnc.errors import UserError


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**50), st.integers(0, 2_000))
def test_keys_are_distinct_and_do_not_depend_on_how_they_are_asked_for(seed: int, first: int, count: int) -> None:
    together = keys(first, count, seed)
    assert len(set(together.tolist())) == count
    assert together[count // 2 :].tolist() == keys(first + count // 2, count - count // 2, seed).tolist()


def test_keys_shuffle() -> None:
    """Ranks of neighbours are uncorrelated, also between seeds; spills are of about equal size."""
    one, other = keys(0, 100_000, 1), keys(0, 100_000, 2)
    ranks, other_ranks = np.argsort(np.argsort(one)), np.argsort(np.argsort(other))
    for a, b in [
        (ranks[1:], ranks[:-1]),
        (ranks, np.arange(100_000)),
        (ranks, other_ranks),
        (ranks[1:], other_ranks[:-1]),
    ]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    counts = np.bincount(spill_of(one, 100), minlength=100)
    assert counts.min() > 850 and counts.max() < 1_150


@given(st.integers(1, 20_000), st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_spills_are_ranges_of_keys(spills: int, values: list[int]) -> None:
    ordered = np.sort(np.array(values, dtype=np.uint64))
    dealt = spill_of(ordered, spills)
    assert (np.diff(dealt) >= 0).all() and dealt.min() >= 0 and dealt.max() < spills


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.one_of(st.none(), st.integers(1, 60)))
def test_shards_hold_every_document_once_and_validation_the_last(spilled: list[int], val_documents: int | None) -> None:
    total = sum(spilled)
    if total < 2 or (val_documents or 1) >= total:
        with pytest.raises(UserError):
            plan_shards(spilled, val_documents)
        return
    order = [(spill, row) for spill, rows in enumerate(spilled) for row in range(rows)]
    plans = plan_shards(spilled, val_documents)
    held = [[(spill, row) for spill, first, stop in plan.pieces for row in range(first, stop)] for plan in plans]
    assert [document for shard in held for document in shard] == order
    assert all(held) and [plan.number for plan in plans] == list(range(len(plans))) and len(plans) >= 2
    assert plans[-1].rows == (val_documents or max(1, total // 20))
    assert all(len(plan.pieces) == 1 for plan in plans[:-1])


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 7), st.integers(1, 100))
def test_row_groups(sizes: list[int], rows: int, most: int) -> None:
    stops, expected, count, size = row_group_stops(np.array(sizes, dtype=np.int64), rows, most), [], 0, 0
    for document, length in enumerate(sizes):  # one after another, as long as the next one fits
        if count and (count == rows or size + length > most):
            expected.append(document)
            count = size = 0
        count, size = count + 1, size + length
    assert stops == (expected + [len(sizes)] if sizes else [])


def test_spill_count() -> None:
    assert [spill_count(size, 100) for size in (0, 10**6, 149 * 10**6, 151 * 10**6, 28 * 10**9)] == [1, 1, 1, 2, 280]
