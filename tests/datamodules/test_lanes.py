"""The global row order against a slow version that walks every lane with a plain generator."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datamodules.documents import Tokens
from datamodules.lanes import Position, RankReader, check_shares, deal, merge, shuffled, start
from datamodules.packing import PackingReport
from vnc.errors import UserError

WORLDS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Numbered:
    """Windows of 0 to 4 rows; a row spells out (epoch, window, row), so that no two are alike."""

    count: int
    full: bool = False
    name: str = "numbered"
    row_len: int = 3

    def rows(self, epoch: int, window: int) -> tuple[Tokens, PackingReport]:
        size = 3 if self.full else (epoch * 7 + window * 5 + window // 3) % 5
        rows = np.array([[epoch, window, row] for row in range(size)], dtype=np.int32).reshape(-1, 3)
        return rows, PackingReport(rows=size)

    def expect(self, epoch: int, window: int) -> None:
        pass


def lane_by_hand(windows: Numbered, seed: int, lane: int, lanes: int) -> Iterator[list[int]]:
    epoch = 0
    while True:
        for window in shuffled(windows.count, seed, epoch)[lane::lanes].tolist():
            rows, _ = windows.rows(epoch, window)
            yield from rows[shuffled(len(rows), seed, epoch, window)].tolist()
        epoch += 1


def order_by_hand(windows: Numbered, seed: int, lanes: int, rows: int) -> list[list[int]]:
    each = [lane_by_hand(windows, seed, lane, lanes) for lane in range(lanes)]
    return [next(each[row % lanes]) for row in range(rows)]


def together(readers: list[RankReader], rows_per_step: int) -> list[list[int]]:
    """One step of all ranks, put back into the global order."""
    world, first = len(readers), readers[0].position["next_row"]
    shares = [iter(reader.read(rows_per_step).tolist()) for reader in readers]
    step = [next(shares[row % world]) for row in range(first, first + rows_per_step)]
    assert all(next(share, None) is None for share in shares)
    return step


def readers_at(windows: Numbered, seed: int, world: int, position: Position) -> list[RankReader]:
    return [RankReader(windows, seed, rank, world, position) for rank in range(world)]


@st.composite
def setups(draw: st.DrawFn) -> tuple[Numbered, int, int]:
    """(windows, lanes, seed) with some rows in them."""
    lanes = draw(st.sampled_from([8, 16, 24]))
    windows = Numbered(draw(st.integers(lanes, 60)))
    return windows, lanes, draw(st.integers(0, 2**40))


@given(setups(), st.sampled_from(WORLDS), st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_every_world_size_reads_the_same_rows_in_every_step(
    setup: tuple[Numbered, int, int], world: int, shares: list[int]
) -> None:
    """Step sizes smaller than, larger than and no multiple of the lanes, and changing from step to step."""
    windows, lanes, seed = setup
    readers, seen = readers_at(windows, seed, world, start(lanes)), []
    for share in shares:
        seen += together(readers, share * world)
    assert seen == order_by_hand(windows, seed, lanes, len(seen))


@given(setups(), st.sampled_from(WORLDS), st.sampled_from(WORLDS), st.integers(0, 300), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_resume_goes_on_with_the_next_row_on_any_world_size(
    setup: tuple[Numbered, int, int], before: int, after: int, rows: int, share: int
) -> None:
    windows, lanes, seed = setup
    rows -= rows % before
    assume(rows)
    readers = readers_at(windows, seed, before, start(lanes))
    seen = together(readers, rows)
    position = json.loads(json.dumps(merge([reader.position for reader in readers])))
    readers = readers_at(windows, seed, after, position)
    for _ in range(3):
        seen += together(readers, share * after)
    assert seen == order_by_hand(windows, seed, lanes, len(seen))


@given(setups(), st.integers(0, 8), st.integers(0, 300))
@settings(max_examples=50, deadline=None)
def test_every_window_is_expected_before_it_is_opened(
    setup: tuple[Numbered, int, int], earlier: int, rows: int
) -> None:
    """At first the windows that the lanes stand in, then the next one of each; each once."""
    windows, lanes, seed = setup
    reader = RankReader(windows, seed, 0, 1, start(lanes))
    reader.read(earlier)
    said: list[tuple[str, int, int]] = []

    class Watched(Numbered):
        def rows(self, epoch: int, window: int) -> tuple[Tokens, PackingReport]:
            said.append(("open", epoch, window))
            return super().rows(epoch, window)

        def expect(self, epoch: int, window: int) -> None:
            said.append(("expect", epoch, window))

    resumed = RankReader(Watched(windows.count), seed, 0, 1, reader.position)
    resumed.read(rows)
    opened = [one[1:] for one in said if one[0] == "open"]
    expected = [one[1:] for one in said if one[0] == "expect"]
    assert len(set(expected)) == len(expected) and len(expected) == lanes + len(opened)
    for place, (what, *window) in enumerate(said):
        assert what == "expect" or ("expect", *window) in said[:place]
    assert resumed.report.rows == sum(len(windows.rows(*one)[0]) for one in opened)


def test_an_epoch_holds_every_row_once() -> None:
    windows, lanes = Numbered(count=32, full=True), 8
    rows = RankReader(windows, 3, 0, 1, start(lanes)).read(2 * 32 * 3).tolist()
    for epoch in (0, 1):
        half = sorted(rows[epoch * 96 : (epoch + 1) * 96])
        assert half == [[epoch, window, row] for window in range(32) for row in range(3)]
    assert [row[1:] for row in rows[:96]] != [row[1:] for row in rows[96:]]  # another order in another epoch


def test_rows_within_a_window_are_shuffled() -> None:
    @dataclass(frozen=True)
    class OneBigWindow(Numbered):
        def rows(self, epoch: int, window: int) -> tuple[Tokens, PackingReport]:
            return np.array([[epoch, window, row] for row in range(50)], dtype=np.uint16), PackingReport()

    rows = RankReader(OneBigWindow(1), 0, 0, 1, start(1)).read(100)[:, 2].tolist()
    assert sorted(rows[:50]) == sorted(rows[50:]) == list(range(50))
    assert rows[:50] != list(range(50)) and rows[:50] != rows[50:]


def test_the_order_is_the_same_on_every_machine() -> None:
    """Written down, because a run must be resumable with a newer numpy."""
    assert shuffled(10, 1337, 0).tolist() == [5, 1, 6, 7, 8, 4, 0, 9, 2, 3]
    assert deal(10, 1337, 0).tolist() == [5, 1, 6, 7, 8, 4, 0, 9, 2, 3]


def test_only_the_lanes_that_are_due_are_packed() -> None:
    packed: list[tuple[int, int]] = []

    class Watched(Numbered):
        def rows(self, epoch: int, window: int) -> tuple[Tokens, PackingReport]:
            packed.append((epoch, window))
            return super().rows(epoch, window)

    windows = Watched(count=64, full=True)
    reader = RankReader(windows, 0, 0, 1, start(64))
    assert packed == []
    reader.read(16)
    assert len(packed) == 16
    reader.read(48)
    assert len(packed) == 64
    position, packed[:] = reader.position, []
    RankReader(windows, 0, 0, 1, position).read(64)
    assert len(packed) == 64  # resuming packs each lane's current window and nothing before it


def test_windows_without_rows_are_an_error_and_no_endless_loop() -> None:
    class Empty(Numbered):
        def rows(self, epoch: int, window: int) -> tuple[Tokens, PackingReport]:
            return np.empty((0, 3), dtype=np.int32), PackingReport()

    with pytest.raises(UserError, match=r"numbered.*empty"):
        RankReader(Empty(20), 0, 0, 1, start(8)).read(1)


@pytest.mark.parametrize("place", [(0, 0, 3), (0, 4, 0)])
def test_a_position_of_other_data_is_refused(place: tuple[int, int, int]) -> None:
    position = Position(next_row=0, lanes=[place] * 8)
    with pytest.raises(UserError, match="saved position"):
        RankReader(Numbered(32, full=True), 0, 0, 1, position).read(1)


def test_a_rank_needs_the_positions_of_its_lanes() -> None:
    windows = Numbered(32, full=True)
    half = RankReader(windows, 0, 0, 2, start(8)).position
    with pytest.raises(ValueError, match="lane 1"):
        RankReader(windows, 0, 0, 1, half)
    with pytest.raises(ValueError, match="lane 1"):
        merge([half])
    ahead = RankReader(windows, 0, 1, 2, start(8))
    ahead.read(2)
    with pytest.raises(ValueError, match="different rows"):
        merge([half, ahead.position])


def test_lanes_and_rows_must_be_shared_evenly() -> None:
    for lanes, rows, world in [(64, 32, 8), (64, 8, 8), (24, 36, 4), (3, 9, 3)]:
        check_shares(lanes, rows, world)
    with pytest.raises(UserError, match="lanes=64: 3 processes"):
        check_shares(64, 30, 3)
    with pytest.raises(UserError, match="30 rows a step: 4 processes"):
        check_shares(64, 30, 4)
    with pytest.raises(UserError, match="lanes=0"):
        check_shares(0, 1, 1)
