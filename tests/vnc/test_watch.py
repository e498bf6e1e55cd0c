"""The watch between real processes: each test starts ranks around a real store, harms one, and reads how they end."""

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from torch.distributed import PrefixStore, TCPStore

import vnc.watch
from vnc.errors import UserError
from vnc.watch import WAY_OUT, Watch

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["vnc.launcher"])  # torch is imported once, by a process without threads
LIMIT = 30.0  # seconds in which every run must have ended, on a busy machine too


class Run:
    """`world` processes with a watch each; `part(watch, rank)` is what their main threads do."""

    def __init__(self, folder: Path, part, world: int = 3, **seconds: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder, self.started = folder, time.monotonic()
        self.ranks = [
            FORKSERVER.Process(target=rank_process, args=(folder, rank, world, port, part, seconds), daemon=True)
            for rank in range(world)
        ]
        for rank in self.ranks:
            rank.start()
        while not all((folder / f"ready{rank}").exists() for rank in range(world)):
            assert time.monotonic() - self.started < LIMIT, "the ranks have not started"
            time.sleep(0.05)
        self.ready = time.monotonic()

    def signal(self, rank: int, number: int) -> None:
        os.kill(self.ranks[rank].pid, number)

    def end(self, *but: int) -> list[int | None]:
        """The exit codes, once all ranks but those named have ended; whatever is left is killed."""
        for number, rank in enumerate(self.ranks):
            if number not in but:
                rank.join(max(0.0, self.ready + LIMIT - time.monotonic()))
        codes = [rank.exitcode for rank in self.ranks]
        for rank in self.ranks:
            rank.kill()
        return codes

    def said(self, rank: int) -> list[str]:
        """The lines of this rank's stderr that are errors; torch writes its own when a store is gone."""
        lines = (self.folder / f"stderr{rank}").read_text().splitlines()
        return [line for line in lines if line.startswith(("error:", "Traceback"))]


def rank_process(folder: Path, rank: int, world: int, port: int, part, seconds: dict[str, float]) -> None:
    os.dup2(os.open(folder / f"stderr{rank}", os.O_WRONLY | os.O_CREAT), 2)
    vnc.watch.INTERVAL_SECONDS, vnc.watch.GRACE_SECONDS = 0.25, 0.5
    store = PrefixStore("run", TCPStore("127.0.0.1", port, world, rank == 0, wait_for_workers=True))
    watch = Watch(store, rank, world, **seconds)
    watch.start()
    watch.progress(12, "forward")
    watch.progress(13, "backward")
    store.set(f"up{rank}", "")  # as after init_process_group
    store.wait([f"up{other}" for other in range(world)])
    time.sleep(0.7)  # some rounds, so that all have read each other's place
    (folder / f"ready{rank}").touch()
    part(watch, rank)


def hang(watch: Watch, rank: int) -> None:
    """A main thread that waits in a collective for ever; its watch lives."""
    time.sleep(120)


def only_line(run: Run, rank: int) -> str:
    (line,) = run.said(rank)
    assert line.startswith("error: rank") and line.endswith(WAY_OUT)
    return line


def test_a_killed_rank_is_named_by_rank_0_alone(tmp_path):
    run = Run(tmp_path, hang, heartbeat_seconds=1.5)
    run.signal(1, signal.SIGKILL)
    assert run.end() == [1, -9, 1]
    assert "rank 1 has been silent for 2 s (last seen at step 13 (backward))" in only_line(run, 0)
    assert run.said(2) == []


def test_a_killed_rank_0_takes_the_store_with_it_and_is_named_by_the_others(tmp_path):
    run = Run(tmp_path, hang, heartbeat_seconds=60)
    run.signal(0, signal.SIGKILL)
    assert run.end() == [-9, 1, 1]
    for rank in (1, 2):
        assert "rank 0 is gone (last seen at step 13 (backward))" in only_line(run, rank)


def test_a_frozen_rank_is_silent_and_so_is_a_frozen_store(tmp_path):
    """With rank 0 the store freezes too: no call to it returns. Two runs at once, to save time."""
    for frozen in (0, 1):
        (tmp_path / f"run{frozen}").mkdir()
    runs = [Run(tmp_path / f"run{frozen}", hang, heartbeat_seconds=2) for frozen in (0, 1)]
    for frozen, run in enumerate(runs):
        run.signal(frozen, signal.SIGSTOP)
    codes = [run.end(frozen) for frozen, run in enumerate(runs)]
    for frozen, run in enumerate(runs):
        assert codes[frozen] == [None if rank == frozen else 1 for rank in range(3)]
        assert f"rank {frozen} has been silent for 2 s" in only_line(run, 1 - frozen)


def test_a_run_that_was_suspended_goes_on(tmp_path):
    """Each rank has lost more time than it allows the others to be silent, and the first to run sees no other run."""
    run = Run(tmp_path, sleep_a_little, heartbeat_seconds=1.5)
    for rank in range(3):
        run.signal(rank, signal.SIGSTOP)
    time.sleep(2.0)
    for rank in range(3):
        run.signal(rank, signal.SIGCONT)
        time.sleep(0.3)
    assert run.end() == [0, 0, 0]


def sleep_a_little(watch: Watch, rank: int) -> None:
    time.sleep(3.2)
    os._exit(0 if watch.stop() is None else 1)


def hang_behind(watch: Watch, rank: int) -> None:
    watch.on_end = lambda: os.write(2, b"children killed\n")
    if rank != 1:
        watch.progress(13, "optimizer")
    time.sleep(120)


def test_a_rank_that_hangs_behind_the_others_is_named(tmp_path):
    run = Run(tmp_path, hang_behind, timeout_seconds=1.5)
    assert run.end() == [1, 1, 1]
    assert "rank 1 has not moved for 2 s at step 13 (backward) while the others wait" in only_line(run, 0)
    assert all("children killed" in (tmp_path / f"stderr{rank}").read_text() for rank in range(3))


def test_ranks_that_stand_in_one_place_are_not_told_apart(tmp_path):
    run = Run(tmp_path, hang, world=2, timeout_seconds=1.5)
    assert run.end() == [1, 1]
    (line,) = run.said(0)
    assert "no rank has moved for 2 s at step 13 (backward): all of them stand there" in line


def fail_or_ask(watch: Watch, rank: int) -> None:
    """Rank 1 fails by itself; the others' collectives fail at once and they ask who it was."""
    if rank == 1:
        watch.report_failure("CUDA out of\nmemory")
        os._exit(3)
    os.write(2, f"error: asked: {watch.verdict()}\n".encode())
    os._exit(4)


def test_a_reported_failure_reaches_all_in_its_own_words(tmp_path):
    run = Run(tmp_path, fail_or_ask)
    assert run.end() == [4, 3, 4]
    for rank in (0, 2):
        expected = f"rank 1 failed at step 13 (backward): CUDA out of memory; {WAY_OUT}"
        assert run.said(rank) == [f"error: asked: {expected}"]


def note_and_ask(watch: Watch, rank: int) -> None:
    if rank == 0:
        watch.note_death(2, "was killed by SIGKILL")
    if rank != 2:
        os.write(2, f"error: asked: {watch.verdict()}\n".encode())
        os._exit(4)
    os._exit(7)  # dead, and silent


def test_a_noted_death_is_told_to_all(tmp_path):
    """Rank 0, which holds the store, stays until rank 1 has read it too."""
    run = Run(tmp_path, note_and_ask)
    assert run.end() == [4, 4, 7]
    for rank in (0, 1):
        assert f"rank 2 was killed by SIGKILL (last seen at step 13 (backward)); {WAY_OUT}" in run.said(rank)[0]


def ask_in_vain(watch: Watch, rank: int) -> None:
    found = watch.verdict(1.0)
    watch.stop()
    os._exit(5 if found is None else 6)


def test_a_failure_while_all_others_are_well_has_no_other_culprit(tmp_path):
    assert Run(tmp_path, ask_in_vain, world=2).end() == [5, 5]


def end_in_turn(watch: Watch, rank: int) -> None:
    time.sleep(1.3 * rank)
    assert watch.stop() is None


def end_in_turn_backwards(watch: Watch, rank: int) -> None:
    time.sleep(1.3 * (2 - rank))
    assert watch.stop() is None


def test_a_clean_end_in_any_order_is_no_failure(tmp_path):
    """The first to end is silent for longer than a heartbeat before the last does; rank 0 takes the store with it."""
    parts = {"forwards": end_in_turn, "backwards": end_in_turn_backwards}
    for name in parts:
        (tmp_path / name).mkdir()
    runs = [Run(tmp_path / name, part, heartbeat_seconds=1.5) for name, part in parts.items()]
    assert [run.end() for run in runs] == [[0, 0, 0], [0, 0, 0]]
    for run in runs:
        assert [run.said(rank) for rank in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    "wrong", [{"heartbeat_seconds": 0.0}, {"timeout_seconds": -1.0}, {"timeout_seconds": float("nan")}]
)
def test_time_outs_are_positive(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Watch(None, 0, 1, **wrong)
