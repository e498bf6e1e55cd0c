"""`vnc processes`: which training processes of this user run on this machine, and an orderly end for them."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vnc.errors import UserError

VERBS = ("fit", "validate", "test", "train")
SWEEP = ("scaling", "sweep")
GRACE_SECONDS = 60.0  # to finish the step and save


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    started: int  # clock ticks after the machine's start: with the pid, no other process has the same
    command: tuple[str, ...]


def processes(kill: bool = False, yes: bool = False, grace: float = GRACE_SECONDS) -> None:
    """List this user's vnc training processes.

    Args:
        kill: End them: each finishes its step and saves; what is still there after the grace is killed.
        yes: Do not ask first.
        grace: Seconds that they have to save.
    """
    if not Path("/proc/self").exists():
        raise UserError("vnc processes reads /proc, which this system has not; use its own tools, such as ps")
    found = training_processes()
    for process in found:
        print(f"{process.pid:>8}  {since(process)}  {' '.join(process.command)}")
    if not found:
        print("no vnc training processes of yours are running")
    elif kill:
        if not yes and sys.stdin.isatty() and input("end them? [y/N] ").strip().lower() not in ("y", "yes"):
            print("left alone")
            return
        end(found, grace)


def training_processes() -> list[Process]:
    """This user's `vnc fit|validate|test|train`, in whatever way started, and all their children; not this process, nor
    what it was started from."""
    everyone = {process.pid: process for process in map(_read, _pids()) if process is not None}
    mine, own = os.getpid(), set[int]()
    while mine in everyone:
        own.add(mine)
        mine = everyone[mine].parent
    chosen = {pid for pid, process in everyone.items() if is_training(process.command) and pid not in own}
    grown = True
    while grown:
        children = {pid for pid, process in everyone.items() if process.parent in chosen and pid not in own} - chosen
        chosen |= children
        grown = bool(children)
    return [everyone[pid] for pid in sorted(chosen)]


def is_training(command: tuple[str, ...]) -> bool:
    """Whether a command line runs vnc with a verb that trains: `.../vnc fit`, `python .../vnc fit`,
    `python -m cli fit`, `python .../cli.py fit`."""
    for place, word in enumerate(command[:4]):
        following = command[place + 1 : place + 3]
        if following and (following[0] in VERBS or following == SWEEP):
            module = word == "cli" and place > 0 and command[place - 1] == "-m"
            flags = command[1:place]  # of the interpreter, such as torchrun's -u
            interpreted = "python" in Path(command[0]).name and all(f.startswith("-") and f != "-c" for f in flags)
            script = Path(word).name in ("vnc", "cli.py") and (place == 0 or interpreted)
            if module or script:
                return True
    return False


def end(found: list[Process], grace: float) -> None:
    """SIGTERM, which has them save; SIGKILL to those that are still there after `grace` seconds."""
    for process in found:
        _send(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while (left := [process for process in found if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        print(f"{process.pid} did not end within {grace:g} s: killed")
        _send(process, signal.SIGKILL)
    print(f"{len(found)} ended")


def _send(process: Process, number: signal.Signals) -> None:
    if _lives(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def since(process: Process) -> str:
    """When it was started, local time."""
    boot = next(
        int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")
    )
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(boot + process.started / os.sysconf("SC_CLK_TCK")))


def _lives(process: Process) -> bool:
    """Whether it is still there, whatever became of its parent, and not another one that has its number by now."""
    now = _read(process.pid)
    return now is not None and now.started == process.started


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int) -> Process | None:
    """A living process of this user; None for any other."""
    folder = Path("/proc") / str(pid)
    try:
        if folder.stat().st_uid != os.getuid():
            return None
        words = (folder / "cmdline").read_bytes().split(b"\0")[:-1]
        fields = (folder / "stat").read_text().rpartition(")")[2].split()  # from the third on, see man 5 proc_pid_stat
    except OSError:
        return None
    command = tuple(word.decode(errors="replace") for word in words)
    return None if fields[0] == "Z" else Process(pid, int(fields[1]), int(fields[19]), command)
