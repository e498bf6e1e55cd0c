"""Which conversations an epoch holds and in which order, against plain counting."""

import time
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from datamodules.tasks.order import epoch_order, picks, share_out

tables = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 150)), min_size=1, max_size=5)


@given(tables, st.integers(0, 5), st.integers(0, 3))
@settings(deadline=None)
def test_every_conversation_comes_as_often_as_any_other_of_its_task(table: Any, seed: int, epoch: int) -> None:
    lengths, counts = zip(*table, strict=True)
    order = epoch_order(lengths, counts, seed, epoch)
    assert order.dtype == np.int64 and len(order) == sum(counts)
    seen = Counter(order.tolist())
    first = 0
    for length, count in table:
        times = [seen.pop(number, 0) for number in range(first, first + length)]
        assert sum(times) == count and max(times) - min(times) <= 1
        first += length
    assert not seen


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_over_the_epochs_all_come_alike(length: int, count: int, seed: int) -> None:
    """After `length` epochs a task of `length` conversations has given `count` of each."""
    seen = Counter(int(n) for epoch in range(length) for n in epoch_order((length,), (count,), seed, epoch))
    assert seen == dict.fromkeys(range(length), count)


def test_the_order_is_another_in_each_epoch_and_seed_and_the_same_each_time() -> None:
    keys = [(seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    for counts in ((50, 30), (50, 45)):  # without and with conversations that come twice
        orders = {key: epoch_order((50, 30), counts, *key).tolist() for key in keys}
        assert len({tuple(order) for order in orders.values()}) == 4
        epoch_order.cache_clear()
        assert all(epoch_order((50, 30), counts, *key).tolist() == order for key, order in orders.items())
    assert len(set(np.array(orders[1, 0][:20]) < 50)) == 2  # the tasks are mixed
    with pytest.raises(ValueError, match="read-only"):
        epoch_order((50, 30), (50, 45), 1, 0)[0] = 0


def test_picks_by_hand() -> None:
    lengths, epochs, weights = [100, 10, 7], [1.0, 4.0, 0.5], [1.0, 1.0, 2.0]
    assert picks(lengths, epochs, weights, "proportional") == [100, 40, 4]  # 3.5 is rounded up
    assert picks(lengths, epochs, weights, "uniform") == [48, 48, 48]
    assert picks(lengths, epochs, weights, "weighted") == [36, 36, 72]
    assert picks([1, 10], [0.01, 1.0], [1, 1], "proportional") == [1, 10]


@given(st.integers(1, 10_000), st.lists(st.floats(0.01, 100), min_size=1, max_size=8))
def test_shares_are_whole_and_near_their_weights(total: int, weights: list[float]) -> None:
    parts = share_out(total, weights)
    exact = [total * weight / sum(weights) for weight in weights]
    assert all(part == 1 or abs(part - fair) < 1 for part, fair in zip(parts, exact, strict=True))
    assert all(part >= 1 for part in parts)
    if all(fair >= 1 for fair in exact):
        assert sum(parts) == total


def test_the_order_of_a_full_mixture_takes_no_time_to_speak_of() -> None:
    started = time.perf_counter()
    order = epoch_order((460_341, 99_842, 7_473, 40_000), (460_341, 299_526, 29_892, 40_000), 1337, 1)
    assert len(order) == 829_759 and time.perf_counter() - started < 5  # about 0.1 s
