"""Launcher: starts one process for each further device of this machine, and sees to it that all of them end together.

Lightning's own observer kills everything, itself included, without a word when a child fails. Here the main process is
told which rank died and how, has time to end by itself with that message, and is ended with it otherwise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from vnc.watch import WAY_OUT, end_process

POLL_SECONDS = 0.2
MAIN_ENDS_SECONDS = 20.0  # for a main process that knows of the death: longer than the grace time of its watch
RENDEZVOUS_ENDS_SECONDS = 1.0  # for one that waits in vain for all processes to appear
KILLED_SECONDS = 5.0
LAUNCHER_PID = "VNC_LAUNCHER_PID"


class Launcher(_SubprocessScriptLauncher):
    """Runs in the first process of a machine; torchrun and SLURM start processes themselves and need none.

    `on_death(rank, how)` is set once the process group is up (to Watch.note_death): it is called from a thread."""

    on_death: Callable[[int, str], None] | None = None

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the children with LOCAL_RANK and its kin in their environment, then call the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._ending = threading.Event()
            os.environ[LAUNCHER_PID] = str(os.getpid())
            self._call_children_scripts()
            del os.environ[LAUNCHER_PID]  # for the children alone
            threading.Thread(target=self._observe, daemon=True, name="launcher-observe").start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    def end_children(self, seconds: float) -> list[str]:
        """Wait so long for the children to end, then kill the rest. From here on the caller answers for them.

        Returns one line for each that did not end well, as in "rank 2 ended with exit code 1"; call it last, whether
        the run went well or not."""
        if not self.procs:
            return []
        self._ending.set()
        deadline = time.monotonic() + seconds
        late = set()
        for rank, child in self._children():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.add(rank)
        self._kill_children()
        return [f"rank {rank} had not ended after {seconds:g} s and was killed" if rank in late
                else f"rank {rank} {ending(child.returncode)}"
                for rank, child in self._children() if rank in late or child.returncode]  # fmt: skip

    def _children(self) -> list[tuple[int, subprocess.Popen[bytes]]]:
        """(global rank, process) of each child."""
        first = self.cluster_environment.node_rank() * self.num_processes + 1
        return list(enumerate(self.procs, start=first))

    def _kill_children(self) -> None:
        self.kill(signal.SIGKILL)
        for child in self.procs:
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that a driver holds ends when that lets go
                child.wait(KILLED_SECONDS)

    def _observe(self) -> None:
        """The thread: from the first child that fails to the end of the main process."""
        died_at, noted = None, False
        while not self._ending.wait(POLL_SECONDS):
            dead = [(rank, ending(child.returncode)) for rank, child in self._children() if child.poll()]
            if not dead:
                continue
            if died_at is None:
                died_at, first = time.monotonic(), dead  # those that follow are consequences
            if self.on_death is not None and not noted:
                noted = True
                for rank, how in first:
                    self.on_death(rank, how)
            if time.monotonic() - died_at >= (MAIN_ENDS_SECONDS if noted else RENDEZVOUS_ENDS_SECONDS):
                line = f"{', '.join(f'rank {rank} {how}' for rank, how in first)}; {WAY_OUT}"
                end_process(line, self._kill_children)


def ending(code: int) -> str:
    """How a process with this return code of subprocess.Popen ended: "was killed by SIGKILL"."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was killed by signal {-code}"


def die_with_parent() -> int | None:
    """Called by a child early: it does not outlive the process that launched it, whatever state its own watch is in.
    Returns the id of that process.

    A thread looks at the parent's id, where Linux could send a signal (PR_SET_PDEATHSIG): SIGKILL would come before
    the watch has said that rank 0 is gone. Without a launcher of ours (torchrun, SLURM) it does nothing."""
    launcher = os.environ.pop(LAUNCHER_PID, None)  # not for processes that this one starts
    if launcher is None:
        return None
    parent = int(launcher)

    def outlive_never() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        time.sleep(MAIN_ENDS_SECONDS)
        end_process(f"rank 0 of this machine, which had launched this process, is gone; {WAY_OUT}")

    threading.Thread(target=outlive_never, daemon=True, name="die-with-parent").start()
    return parent
