"""Processes that are forked from one in which the imports of training have been done: each is a process of its own, as
`python ...` would start it, without the five seconds of processor time that importing torch and Lightning takes.

The server is this file run as a program, with one end of a socket as its standard input. It has computed nothing and
has no threads (but for pyarrow's allocator, which knows of forks), so that forking it is safe. For each process it is
sent the process's output files and a channel of its own: through this come the request, then go the id and, when it has
ended, the exit code.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SET_BY_LAUNCHERS = ("MASTER_", "SLURM_", "TORCHELASTIC_", "VNC_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")
WIDTH = 12  # characters of a number on the channel


class WarmProcess:
    """`python ARGUMENTS` (`-m MODULE ...` or a script) in `folder`, with the methods of subprocess.Popen that are used.

    It leads a session of its own. Two things are the server's and not its own: what of `environment` is read when
    torch loads (OMP_NUM_THREADS is 1), and the command line that the system shows."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.returncode: int | None = None
        self._files = [tempfile.TemporaryFile("ab+") for _ in range(2)]  # noqa: SIM115
        mine, theirs = socket.socketpair()
        socket.send_fds(_server(), [b"+"], [theirs.fileno(), *(file.fileno() for file in self._files)])
        theirs.close()
        self._channel = mine
        request = {"arguments": arguments, "folder": str(folder), "environment": environment}
        mine.sendall(f"{json.dumps(request)}\n".encode())
        self.pid = self._number()

    def _number(self) -> int:
        return int(self._channel.recv(WIDTH, socket.MSG_WAITALL))

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal, as subprocess has it. subprocess.TimeoutExpired."""
        if self.returncode is None:
            watch = select.poll()
            watch.register(self._channel, select.POLLIN)
            if not watch.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self.returncode = self._number()
            self._channel.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has printed, when it has ended; what its children print later is left out."""
        self.wait(timeout)
        out, err = (os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in self._files)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _server() -> socket.socket:
    """The socket of this test process's server, which ends when the test process does."""
    mine, theirs = socket.socketpair()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([sys.executable, "-m", "tests.warm_start"], stdin=theirs, cwd=ROOT, env=environment,
                              start_new_session=True)  # fmt: skip
    theirs.close()

    def end() -> None:
        mine.close()
        server.wait()

    atexit.register(end)
    return mine


# What follows runs in the server.


def serve(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Returns in each forked process, with its request and output files; in the server, when nobody listens, None."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    while True:
        _, files, _, _ = socket.recv_fds(control, 1, 3)
        if not files:
            return None
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return keep(socket.socket(fileno=files[0]), files[1:])
        for file in files:
            os.close(file)


def keep(channel: socket.socket, outputs: list[int]) -> tuple[dict[str, Any], list[int]]:
    """Forks the process, in which alone this returns, and tells how it ended."""
    line = channel.makefile("r").readline()
    pid = os.fork()
    if pid == 0:
        channel.close()
        return json.loads(line), outputs
    channel.sendall(f"{pid:{WIDTH}}".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        channel.sendall(f"{code:{WIDTH}}".encode())
    finally:  # or the test is gone
        os._exit(0)


def become(arguments: list[str], folder: str, environment: dict[str, str], outputs: list[int]) -> None:
    """Run what `python` would run with these arguments; the caller does nothing afterwards."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(outputs, start=1):
        os.dup2(file, number)
        os.close(file)
    if arguments[0] == "-m":
        sys.path[0], sys.argv = folder, arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(folder, arguments[0]).parent), arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    import lightning_cli  # noqa: F401

    threads = {Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")}
    assert threads - {"jemalloc_bg_thd"} == {Path("/proc/self/comm").read_text().strip()}, (
        f"a process whose threads do not know of forks: {threads}"
    )
    if asked := serve(socket.socket(fileno=os.dup(0))):
        become(**asked[0], outputs=asked[1])
