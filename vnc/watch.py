"""Watch: no rank may die or hang unseen. Each rank writes to the run's key-value store, once a second, that it is alive
and how far it is; whoever finds another silent or stuck says which one, and ends its own process.

Two daemon threads serve this. `_talk` alone uses the store (its own connection, so that nothing else waits for it),
because a store whose host is frozen never answers; `_guard` notices just that, and ends a process whose main thread
cannot end by itself. Clocks of two machines are never compared: a rank is silent when what it wrote has stayed the same
for a while by the reader's own clock, and that clock does not count the time in which the reader itself was stopped.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from vnc.errors import UserError

WAY_OUT = "the run has ended; its last checkpoint is whole: go on with --resume true"

INTERVAL_SECONDS = 1.0  # between two signs of life
GRACE_SECONDS = 10.0  # for the main thread to end by itself once the failure is known
TOLD_SECONDS = 5.0  # for the others to read what this rank says last
SILENT_AFTER_FAILURE_SECONDS = 5.0  # silence that counts once a collective has failed


class RankFailure(Exception):
    """A rank has died, failed or hung. The message is one line that names it; the command line exits with 1."""


class Place(NamedTuple):
    """How far a rank is."""

    step: int = 0
    call: int = 0  # of `progress` within the step, so that (step, call) says who is behind
    moves: int = 0  # all calls of `progress`: it grows as long as the rank moves
    phase: str = "start-up"

    def __str__(self) -> str:
        return f"step {self.step} ({self.phase})"


class Finding(NamedTuple):
    """What ended the run: the line to print, and the ranks that it blames."""

    line: str
    culprits: list[int]


@dataclass(frozen=True)
class Sign:
    """What a rank writes under its key."""

    beat: int = 0  # differs from writing to writing
    heard: int = 0  # the last beat of rank 0 that the writer has read
    place: Place = Place()
    done: bool = False  # a clean end: silence afterwards is no failure
    finding: Finding | None = None

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: bytes) -> Sign:
        values: dict[str, Any] = json.loads(text)
        finding = values.pop("finding")
        return cls(**{**values, "place": Place(*values["place"]), "finding": Finding(*finding) if finding else None})


@dataclass
class Peer:
    """What this rank knows of one rank; times are seconds of this rank's own clock."""

    sign: Sign = field(default_factory=Sign)
    heard_at: float = 0.0  # when its sign last differed from the one before
    moved_at: float = 0.0  # when its place last did

    def seen(self) -> str:
        return f"last seen at {self.sign.place}" if self.sign.beat else "never seen"


class RunningClock:
    """Seconds in which this process ran: a pause longer than `longest` counts as `longest`, so that a process that was
    stopped (SIGSTOP, a suspended machine) does not take its own sleep for the silence of others."""

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self.now = 0.0
        self.read_at = time.monotonic()

    def tick(self) -> float:
        read_at = time.monotonic()
        self.now += min(read_at - self.read_at, self.longest)
        self.read_at = read_at
        return self.now


class Watch:
    """Each rank tells the others, once a second, that it is alive and how far it is; whoever finds one silent or stuck
    ends its own process with a message that names it.

    `store` is the run's torch.distributed store, whose server lives with rank 0. A rank may be silent for
    `heartbeat_seconds` (its thread needs the interpreter: no call into C may hold it for so long), and all ranks may
    stand in one place for `timeout_seconds`. UserError when one of them is not positive."""

    def __init__(self, store: Any, rank: int, world_size: int, *,
                 heartbeat_seconds: float = 30.0, timeout_seconds: float = 1800.0) -> None:  # fmt: skip
        for name, value in (("heartbeat_seconds", heartbeat_seconds), ("timeout_seconds", timeout_seconds)):
            if not value > 0:
                raise UserError(f"{name}={value}: a number of seconds above 0 is needed")
        self.rank = rank
        self._store = store  # kept: on rank 0 it owns the server, which must outlive the process group
        self._heartbeat = self._patience = heartbeat_seconds
        self._timeout = timeout_seconds
        self._interval = min(INTERVAL_SECONDS, heartbeat_seconds / 4)
        self._peers = {peer: Peer() for peer in range(world_size)}
        self._place = Place()
        self._deaths: dict[int, tuple[str, int]] = {}  # rank: (how, the round in which it was noted)
        self._rounds = 0  # complete conversations with the store
        self.on_end: Callable[[], object] | None = None  # called before this process is ended: kill its children
        self._done = False
        self._over = False
        self._finding: Finding | None = None
        self._settling = threading.Lock()
        self._news = threading.Event()  # there is a finding, or the watch is over
        self._wake = threading.Event()  # there is something to say now
        self._told = threading.Event()  # the last word is written, and on rank 0 read by the others
        self._talker = threading.Thread(target=self._talk, daemon=True, name="watch-talk")
        self._guardian = threading.Thread(target=self._guard, daemon=True, name="watch-guard")

    # What the main thread calls (and the launcher's thread: note_death).

    def start(self) -> None:
        """Called by every rank right after the process group has formed."""
        self._client = self._store.clone()
        self._talker.start()
        self._guardian.start()

    def progress(self, step: int, phase: str) -> None:
        """This rank has come to `phase` of `step`. Cheap; every rank calls it at the same points of a step."""
        before = self._place
        self._place = Place(step, before.call + 1 if step == before.step else 0, before.moves + 1, phase)

    def report_failure(self, message: str) -> None:
        """This rank fails by itself: post it so that the others can say so. Returns when they can, in seconds."""
        words = " ".join(message.split())
        self._settle(Finding(f"rank {self.rank} failed at {self._place}: {words}; {WAY_OUT}", [self.rank]))
        self._await_told()

    def note_death(self, rank: int, how: str) -> None:
        """The process of `rank` has ended; `how` goes on from "rank 1 ", as in "was killed by SIGKILL"."""
        self._deaths.setdefault(rank, (how, self._rounds))
        self._wake.set()

    def verdict(self, seconds: float = 15.0) -> str | None:
        """After a collective has failed: the line that names the rank at fault, waited for up to `seconds`.

        None if all others are well, so that the failure is this rank's own."""
        self._patience = min(SILENT_AFTER_FAILURE_SECONDS, self._heartbeat)
        self._news.wait(seconds)
        self._patience = self._heartbeat
        if self._finding is None:
            return None
        self._await_told()
        return self._finding.line

    def speaks(self) -> bool:
        """Whether this rank is one that prints the finding: rank 0, or everyone when rank 0 is the one at fault."""
        return self.rank == 0 or self.blames(0)

    def blames(self, rank: int) -> bool:
        """Whether the finding, if there is one, is that `rank` is at fault."""
        return self._finding is not None and rank in self._finding.culprits

    def stop(self) -> str | None:
        """The clean end, None; rank 0 waits until the others know of it. After a finding there is no clean end: its
        line, with which the caller has to fail, and the process ends within the grace time."""
        with self._settling:
            if self._finding is not None:
                return self._finding.line
            if not self._talker.is_alive():
                return None
            self._done = True
        self._wake.set()
        self._talker.join(max(TOLD_SECONDS, self._heartbeat))  # who has not read by then is dead
        self._finish()
        self._guardian.join(TOLD_SECONDS)
        return None

    # The conversation.

    def _talk(self) -> None:
        clock = RunningClock(2 * self._interval)
        beat, last_word = 0, 0
        while not self._over:
            beat += 1
            sign = Sign(beat, self._peers[0].sign.beat, self._place, self._done, self._finding)
            if (sign.done or sign.finding) and not last_word:
                last_word = beat
            try:
                self._client.set(f"watch/{self.rank}", sign.text())
                self._read(clock.tick())
            except RuntimeError:  # torch.distributed.DistError, when its host is gone
                self._lose_store(f"rank 0 is gone ({self._peers[0].seen()}): the store that it keeps cannot be reached")
                self._told.set()  # there is nobody left to tell
                return
            self._rounds += 1
            if not last_word:
                self._settle(self._find(clock.now))
            elif self.rank != 0 or self._all_heard(last_word, sign):
                self._told.set()
                if sign.done:
                    return
            self._wake.wait(min(0.1, self._interval) if last_word and not self._told.is_set() else self._interval)
            self._wake.clear()

    def _read(self, now: float) -> None:
        """Bring every peer up to date. A rank without a key has not come so far yet; asking for it would block."""
        there = [rank for rank, peer in self._peers.items() if peer.sign.beat or self._client.check([f"watch/{rank}"])]
        for rank, text in zip(there, self._client.multi_get([f"watch/{rank}" for rank in there]), strict=True):
            peer, sign = self._peers[rank], Sign.from_text(text)
            if sign.beat != peer.sign.beat:
                peer.heard_at = now
            if sign.place.moves != peer.sign.place.moves:
                peer.moved_at = now
            peer.sign = sign

    def _all_heard(self, beat: int, last: Sign) -> bool:
        """The store ends with rank 0's process, so rank 0 waits until all who can have read its last word."""
        excused = last.finding.culprits if last.finding else []
        return all(peer.sign.done or peer.sign.finding or peer.sign.heard >= beat
                   for rank, peer in self._peers.items() if rank not in (0, *excused))  # fmt: skip

    # Who is at fault.

    def _find(self, now: float) -> Finding | None:
        """The first of: what another rank says, a death that the launcher saw, silence, everyone standing still."""
        for peer in self._peers.values():
            if peer.sign.finding:
                return peer.sign.finding
        for rank, (how, noted) in list(self._deaths.items()):
            if self._rounds >= noted + 2:  # read since then: a dying rank's own words, if any, say more
                return Finding(f"rank {rank} {how} ({self._peers[rank].seen()}); {WAY_OUT}", [rank])
        waited_for = {rank: peer for rank, peer in self._peers.items() if not peer.sign.done}
        silence = {rank: now - peer.heard_at for rank, peer in waited_for.items() if rank != self.rank}
        if (longest := max(silence.values(), default=0.0)) >= self._patience:
            # When a machine goes, its ranks cross the limit one shortly after another: they are named together.
            return self._silent([rank for rank in silence if silence[rank] >= longest / 2], longest)
        if waited_for and all(now - peer.moved_at >= self._timeout for peer in waited_for.values()):
            return self._stuck(waited_for)
        return None

    def _silent(self, ranks: list[int], seconds: float) -> Finding:
        cause = (
            "it was killed, or its machine is gone" if len(ranks) == 1 else "they were killed, or their machine is gone"
        )
        since = f"silent for {seconds:.0f} s ({self._peers[ranks[0]].seen()})"
        return Finding(f"{named(ranks)} been {since}; {cause}; {WAY_OUT}", ranks)

    def _stuck(self, peers: dict[int, Peer]) -> Finding:
        first = min(peer.sign.place[:2] for peer in peers.values())
        behind = [rank for rank, peer in peers.items() if peer.sign.place[:2] == first]
        where = f"moved for {self._timeout:.0f} s at {peers[behind[0]].sign.place}"
        if len(behind) == len(self._peers):
            return Finding(f"no rank has {where}: all of them stand there; {WAY_OUT}", behind)
        return Finding(f"{named(behind)} not {where} while the others wait; {WAY_OUT}", behind)

    def _settle(self, finding: Finding | None) -> None:
        """Keep the first finding; a rank that has said it is done looks for none."""
        with self._settling:
            if finding is None or self._finding is not None or self._done:
                return
            self._finding = finding
        self._news.set()
        self._wake.set()

    def _lose_store(self, line: str) -> None:
        """The store is gone: no harm if rank 0 had said that it was done, its failure otherwise."""
        if self._peers[0].sign.done or self._done:
            self._finish()
        else:
            self._settle(Finding(f"{line}; {WAY_OUT}", [0]))

    def _finish(self) -> None:
        self._over = True
        self._wake.set()
        self._news.set()

    def _await_told(self) -> None:
        if self._talker.is_alive():
            self._told.wait(TOLD_SECONDS)

    # The last resort.

    def _guard(self) -> None:
        clock = RunningClock(2 * self._interval)
        rounds, answered = -1, 0.0
        while not self._news.wait(self._interval):
            now = clock.tick()
            if self._rounds != rounds:
                rounds, answered = self._rounds, now
            elif now - answered >= self._patience:
                silence = f"rank 0 has been silent for {now - answered:.0f} s ({self._peers[0].seen()})"
                self._lose_store(
                    f"{silence}: the store that it keeps does not answer; it is frozen, or its machine is gone"
                )
        if self._finding is None:
            return
        time.sleep(GRACE_SECONDS)
        end_process(self._finding.line if self.speaks() else None, self.on_end)


def named(ranks: list[int]) -> str:
    """ "rank 2 has", or "ranks 2, 3 have"."""
    return f"rank {ranks[0]} has" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))} have"


def end_process(line: str | None, on_end: Callable[[], object] | None = None) -> None:
    """Exit code 1 at once, from any thread. The line goes straight to the descriptor: another thread may hold a lock on
    sys.stderr for good."""
    try:
        if line is not None:
            os.write(2, f"error: {line}\n".encode())
        if on_end is not None:
            on_end()
    finally:
        os._exit(1)
