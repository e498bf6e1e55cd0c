"""The launcher with real processes: children that fail, are killed or do not end, and a main process that dies."""

import fcntl
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import vnc.launcher
from vnc.launcher import LAUNCHER_PID, Launcher, die_with_parent, ending
from vnc.watch import WAY_OUT

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["vnc.launcher"])
LIMIT = 20.0

CHILD = """
import os, pathlib, signal, sys, time
rank = int(os.environ["LOCAL_RANK"])
(pathlib.Path(__file__).parent / f"child{rank}").write_text(f"{os.getpid()} {os.environ['WORLD_SIZE']}")
SPECIAL
time.sleep(60)
"""


class Run:
    """A main process that launches two children; `special` is what they do before they sleep for ever."""

    def __init__(self, folder: Path, part, special: str) -> None:
        self.folder = folder
        (folder / "child.py").write_text(CHILD.replace("SPECIAL", special))
        self.main = FORKSERVER.Process(target=main_process, args=(folder, part), daemon=True)
        self.main.start()

    def end(self) -> int | None:
        self.main.join(LIMIT)
        code = self.main.exitcode
        self.main.kill()
        return code

    def said(self) -> list[str]:
        return [line for line in (self.folder / "stderr").read_text().splitlines() if line.startswith("error:")]

    def children_are_gone(self) -> bool:
        pids = [int((self.folder / f"child{rank}").read_text().split()[0]) for rank in (1, 2)]
        return not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def main_process(folder: Path, part) -> None:
    from lightning.fabric.plugins.environments import LightningEnvironment

    os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT), 2)
    for name in ("LOCAL_RANK", "NODE_RANK"):
        os.environ.pop(name, None)
    sys.argv = [str(folder / "child.py")]
    sys.modules["__main__"].__spec__ = None  # so that Lightning runs sys.argv[0]
    vnc.launcher.MAIN_ENDS_SECONDS = 1.0
    launcher = Launcher(LightningEnvironment(), num_processes=2 + 1, num_nodes=1)
    sys.exit(launcher.launch(part, launcher, folder))


def wait_for(*files: Path) -> None:
    while not all(file.exists() and file.read_text() for file in files):
        time.sleep(0.05)


def wait_in_rendezvous(launcher: Launcher, folder: Path) -> None:
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_that_fails_before_the_group_is_up_ends_all(tmp_path):
    run = Run(tmp_path, wait_in_rendezvous, "if rank == 2: time.sleep(0.5); sys.exit(2)")
    assert run.end() == 1
    assert run.said() == [f"error: rank 2 ended with exit code 2; {WAY_OUT}"]
    assert run.children_are_gone()
    assert (tmp_path / "child1").read_text().split()[1] == "3"


def end_when_told(launcher: Launcher, folder: Path) -> int:
    told: list[tuple[int, str]] = []
    launcher.on_death = lambda rank, how: told.append((rank, how))
    while not told:
        time.sleep(0.05)
    os.write(2, f"error: told {told}\nerror: {launcher.end_children(0.5)}\n".encode())
    return 9


def test_the_main_process_is_told_and_may_end_by_itself(tmp_path):
    run = Run(tmp_path, end_when_told, "if rank == 1: time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)")
    assert run.end() == 9
    assert run.said() == [
        "error: told [(1, 'was killed by SIGKILL')]",
        "error: ['rank 1 was killed by SIGKILL', 'rank 2 had not ended after 0.5 s and was killed']",
    ]
    assert run.children_are_gone()


def hang_when_told(launcher: Launcher, folder: Path) -> None:
    launcher.on_death = lambda rank, how: None
    time.sleep(60)


def test_a_main_process_that_hangs_is_ended_with_the_line(tmp_path):
    run = Run(tmp_path, hang_when_told, "if rank == 1: time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)")
    assert run.end() == 1
    assert run.said() == [f"error: rank 1 was killed by SIGKILL; {WAY_OUT}"]
    assert run.children_are_gone()


def end_well(launcher: Launcher, folder: Path) -> int:
    launcher.on_death = lambda rank, how: os._exit(8)
    assert launcher.end_children(LIMIT) == []
    return 0


def test_children_that_end_well_are_no_failure(tmp_path):
    run = Run(tmp_path, end_well, "time.sleep(0.5 * rank); sys.exit(0)")
    assert run.end() == 0
    assert run.children_are_gone()


def second_machine(launcher: Launcher, folder: Path) -> int:
    wait_for(folder / "child1", folder / "child2")
    os.environ["NODE_RANK"] = "2"
    os.write(2, f"error: {launcher.end_children(0.1)}\n".encode())
    time.sleep(1.5)  # the observer would have ended this process: it leaves the children to the caller
    return 0


def test_ranks_of_another_machine_are_counted_from_there(tmp_path):
    run = Run(tmp_path, second_machine, "")
    assert run.end() == 0
    assert "rank 7 had not" in run.said()[0] and "rank 8 had not" in run.said()[0]


def lock(file: Path) -> bool:
    """Whether nobody else holds the lock of this file; a process holds it until it ends, however it does."""
    global held
    held = file.open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fork_a_child(folder: Path, parent_lives: bool) -> None:
    os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT), 2)
    vnc.launcher.MAIN_ENDS_SECONDS = 0.5
    os.environ[LAUNCHER_PID] = str(os.getpid())
    if os.fork() == 0:
        signal.alarm(60)  # a test that fails leaves nothing behind
        assert lock(folder / "lock")
        (folder / "child").write_text("started")
        if not parent_lives:
            while os.getppid() == int(os.environ[LAUNCHER_PID]):
                time.sleep(0.05)
        die_with_parent()
        (folder / "child").write_text("protected")
        time.sleep(60)
    while parent_lives or not (folder / "child").exists():
        time.sleep(0.05)
    os._exit(0)


@pytest.mark.parametrize("parent_lives", [True, False])
def test_a_child_does_not_outlive_its_parent(tmp_path, parent_lives):
    """Killed while the child runs; and gone already when the child asks for it."""
    main = FORKSERVER.Process(target=fork_a_child, args=(tmp_path, parent_lives), daemon=True)
    main.start()
    child, deadline = tmp_path / "child", time.monotonic() + LIMIT
    while not (child.exists() and child.read_text() == "protected"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if parent_lives:
        time.sleep(0.7)
        assert not lock(tmp_path / "lock")
    main.kill()
    while not lock(tmp_path / "lock"):
        assert time.monotonic() < deadline, "the child lives"
        time.sleep(0.05)
    assert (tmp_path / "stderr").read_text().startswith("error: rank 0 of this machine")


def test_without_a_launcher_of_ours_nothing_is_watched(monkeypatch):
    monkeypatch.delenv(LAUNCHER_PID, raising=False)
    die_with_parent()
    assert "die-with-parent" not in [thread.name for thread in threading.enumerate()]


def test_endings_have_names():
    assert ending(-signal.SIGSEGV) == "was killed by SIGSEGV"
    assert ending(-(signal.SIGRTMIN + 3)) == f"was killed by signal {signal.SIGRTMIN + 3}"
    assert ending(2) == "ended with exit code 2"
