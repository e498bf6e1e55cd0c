"""The global order of rows: which row of which window comes when, and who reads it. Plain numpy, no torch, no files.

The stream is cut into lanes. Row `i` of the global order is the next row of lane `i % lanes`, and step after step takes
the next rows of that order. Rank `r` reads the rows of the lanes with `lane % world == r`, so any number of processes
trains on the same rows in the same step. In every epoch the windows are dealt to the lanes by a permutation; each lane
packs one window, whole, then its next, and goes from epoch to epoch at its own pace. Where a reader stands is one
number and (epoch, turn, row) for each lane: which epoch, which of the lane's windows in it, which row comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol, TypedDict

import numpy as np
import numpy.typing as npt

from datamodules.documents import Tokens
from datamodules.packing import PackingReport, Row
from vnc.errors import UserError


class Windows(Protocol):
    """What lanes read: rows, by window."""

    @property
    def name(self) -> str:
        """What the windows are made of, for messages."""
        ...

    @property
    def count(self) -> int:
        """Windows in an epoch."""
        ...

    @property
    def row_len(self) -> int:
        """sequence_len + 1."""
        ...

    def rows(self, epoch: int, window: int) -> tuple[Tokens, PackingReport]:
        """All rows of one window, (rows, row_len), and their account; the same for the same arguments, everywhere."""
        ...

    def expect(self, epoch: int, window: int) -> None:
        """The rows of this window will be asked for, as the next one of its lane."""
        ...


class Position(TypedDict):
    """Where a reader stands. JSON-able, and good for any world size and any number of rows a step."""

    next_row: int
    """Rows of the global order read so far."""
    lanes: list[tuple[int, int, int] | None]
    """(epoch, turn, row) of each lane; None for a lane that another rank reads (see `merge`)."""


def start(lanes: int) -> Position:
    """The position before the first row."""
    return Position(next_row=0, lanes=[(0, 0, 0)] * lanes)


def combine(parts: Sequence[Position]) -> Position:
    """The position of the lanes of some readers that have taken the same steps."""
    if len({part["next_row"] for part in parts}) != 1:
        raise ValueError(f"readers stand at different rows: {[part['next_row'] for part in parts]}")
    everyone = zip(*(part["lanes"] for part in parts), strict=True)
    lanes = [next((place for place in known if place is not None), None) for known in everyone]
    return Position(next_row=parts[0]["next_row"], lanes=lanes)


def merge(parts: Sequence[Position]) -> Position:
    """The position of all lanes from the positions of all ranks after the same step."""
    everything = combine(parts)
    if None in everything["lanes"]:
        raise ValueError(f"no rank has read lane {everything['lanes'].index(None)}")
    return everything


def shuffled(count: int, *seed: int) -> npt.NDArray[np.int64]:
    """A permutation of range(count) that depends on `seed` alone: the order of as many raw PCG64 draws.

    numpy promises that raw draws stay the same in all its versions; it does not promise that of `permutation`.
    """
    draws = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count)
    return np.argsort(draws, kind="stable")


@lru_cache(maxsize=4)
def deal(windows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The windows of an epoch in the order in which they are dealt: lane `l` of n gets `[l::n]`."""
    return shuffled(windows, seed, epoch)


def check_shares(lanes: int, rows_per_step: int, world: int, readers: str = "processes") -> None:
    """UserError unless every one of `world` readers gets the same number of rows in every step.

    That takes whole lanes and whole rows for each rank, and no more: `world` divides `lanes`, so the rows of a rank
    are those with `row % world == rank`, evenly spread over any `rows_per_step` neighbours, whether or not these are a
    multiple of `lanes`.
    """
    if lanes < 1:
        raise UserError(f"lanes={lanes}: must be at least 1")
    if lanes % world:
        raise UserError(f"lanes={lanes}: {world} {readers} cannot share them evenly; use a multiple of {world} (which "
                        f"changes the order of the data), or a number of {readers} that divides {lanes}")  # fmt: skip
    if rows_per_step % world:
        raise UserError(f"{rows_per_step} rows a step: {world} {readers} cannot share them evenly; use a multiple of "
                        f"{world}")  # fmt: skip


class RankReader:
    """Reads the rows of one rank, step by step, from a position.

    Packs lazily: a lane's window is packed when its first row is due, unless the windows read ahead: they are told
    which one each lane will need next.
    """

    def __init__(self, windows: Windows, seed: int, rank: int, world: int, position: Position) -> None:
        lanes = len(position["lanes"])
        if windows.count < lanes:
            raise ValueError(f"{windows.name}: {windows.count} windows cannot fill {lanes} lanes")
        self._row_len, self._rank, self._world = windows.row_len, rank, world
        self._next_row = position["next_row"]
        self._reports = [PackingReport()]
        self._lanes: list[_Lane | None] = [None] * lanes
        for number in range(rank, lanes, world):
            place = position["lanes"][number]
            if place is None:
                raise ValueError(f"the position of lane {number} is missing: merge the positions of all ranks first")
            self._lanes[number] = _Lane(windows, seed, number, lanes, self._reports, *place)
        for lane in self._lanes:
            if lane is not None:
                lane.announce()

    @property
    def position(self) -> Position:
        return Position(next_row=self._next_row, lanes=[lane.place if lane else None for lane in self._lanes])

    @property
    def report(self) -> PackingReport:
        """What became of the tokens of all windows opened so far."""
        self._reports[:] = [sum(self._reports, PackingReport())]
        return self._reports[0]

    def read(self, rows_per_step: int) -> Row:
        """The rank's share of the next `rows_per_step` rows: a fresh int32 (rows_per_step // world, row_len)."""
        step = np.empty((rows_per_step // self._world, self._row_len), dtype=np.int32)
        for lane, mine in self._shares(rows_per_step):
            lane.take(step[mine])
        self._next_row += rows_per_step
        return step

    def _shares(self, rows_per_step: int) -> Iterator[tuple[_Lane, slice]]:
        """Each lane that has rows in the next step, and where they stand among the rank's rows."""
        lanes, first = len(self._lanes), (self._rank - self._next_row) % self._world  # `first` row of the step is ours
        for number, lane in enumerate(self._lanes):
            offset = (number - self._next_row) % lanes
            if lane is not None and offset < rows_per_step:
                yield lane, slice((offset - first) // self._world, None, lanes // self._world)


class _Lane:
    """One lane: walks its windows, epoch after epoch, and hands out the rows of each in shuffled order."""

    def __init__(
        self,
        windows: Windows,
        seed: int,
        number: int,
        lanes: int,
        reports: list[PackingReport],
        epoch: int,
        turn: int,
        row: int,
    ) -> None:
        self._windows, self._seed, self._number, self._lanes = windows, seed, number, lanes
        self._reports = reports  # of the windows opened, by all lanes of a reader
        self._epoch, self._turn, self._row = epoch, turn, row
        self._rows: Tokens | None = None  # the current window's, once one of them was due
        self._order = np.empty(0, dtype=np.int64)  # in which they are handed out

    @property
    def place(self) -> tuple[int, int, int]:
        return self._epoch, self._turn, self._row

    def announce(self) -> None:
        """Tell the windows that read ahead where this lane starts."""
        mine = self._mine(self._epoch)
        if self._turn < len(mine):
            self._windows.expect(self._epoch, int(mine[self._turn]))

    def take(self, out: Row) -> None:
        """Fills `out`, (n, row_len), with the next n rows."""
        done = 0
        while done < len(out):
            rows = self._window()
            chosen = rows[self._order[self._row : self._row + len(out) - done]]
            out[done : done + len(chosen)] = chosen
            done += len(chosen)
            self._pass(len(chosen))

    def _window(self) -> Tokens:
        """The rows of the current window; windows without rows are passed over."""
        empty = 0
        while self._rows is None:
            mine = self._mine(self._epoch)
            if self._turn >= len(mine):
                raise self._lost()
            window = int(mine[self._turn])
            epoch, turn = self._following()
            self._windows.expect(epoch, int(self._mine(epoch)[turn]))
            rows, report = self._windows.rows(self._epoch, window)
            self._reports.append(report)
            if self._row and self._row >= len(rows):
                raise self._lost()
            if len(rows):
                # Best-fit emits long documents first; training must not meet them in that order.
                self._rows, self._order = rows, shuffled(len(rows), self._seed, self._epoch, window)
                break
            empty += 1
            if empty >= self._windows.count:
                raise UserError(f"{self._windows.name}: {empty} windows in a row hold no text; (nearly) all documents "
                                "are empty")  # fmt: skip
            self._next_window()
        return self._rows

    def _lost(self) -> UserError:
        return UserError(f"{self._windows.name}: the saved position (epoch {self._epoch}, turn {self._turn}, row "
                         f"{self._row} of lane {self._number}) does not exist in this data")  # fmt: skip

    def _pass(self, rows: int) -> None:
        self._row += rows
        if self._row == len(self._window()):
            self._next_window()

    def _next_window(self) -> None:
        self._rows, self._row = None, 0
        self._epoch, self._turn = self._following()

    def _following(self) -> tuple[int, int]:
        """(epoch, turn) of the lane's next window."""
        last = self._turn + 1 >= len(self._mine(self._epoch))
        return (self._epoch + 1, 0) if last else (self._epoch, self._turn + 1)

    def _mine(self, epoch: int) -> npt.NDArray[np.int64]:
        """The lane's windows in an epoch, in order."""
        return deal(self._windows.count, self._seed, epoch)[self._number :: self._lanes]
