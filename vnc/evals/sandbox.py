"""Run Python that a model has written, where it can do no harm.

Each program runs in a process of its own, with limits on time, memory, files and output, with an empty environment and
an empty folder to write in. On Linux it also gets namespaces of its own, in which there is no network, no other process
and no file but Python's library, and a filter of system calls. What of this a machine allows is found out by trying
(`protections`), and where the whole is not to be had nothing is run unless the caller settles for less. docs/sandbox.md
says in plain words what a program can and cannot do.

Nothing here asks whether the user wants generated code to run at all: that is for callers to ask, first.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import marshal
import os
import platform
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from vnc.evals.syscall_filter import MACHINES, filter_program

# Imported by name, not run by path, so that its compiled form is kept; last on the path, so that it hides no library.
START = "import sys; sys.path.append({!r}); import sandbox_child; sys.path.pop(); sandbox_child.main()"
GRACE_SECONDS = 5.0  # for the guard to start, and to end what is left over

MIB = 1 << 20

End = Literal["passed", "failed", "timeout", "memory", "output", "killed", "not run"]


@dataclass(frozen=True)
class Limits:
    cpu_seconds: int = 4
    """Of processor time. The official HumanEval harness allows 3 seconds by the clock."""
    wall_seconds: float = 10.0
    """By the clock: more than cpu_seconds, so that a busy machine does not fail a good program."""
    memory_bytes: int = 512 * MIB
    """Address space of the process."""
    file_bytes: int = 16 * MIB
    """Of each file that it writes."""
    scratch_bytes: int = 32 * MIB
    """Of all its files together; kept where there are namespaces."""
    open_files: int = 64
    processes: int = 16
    """Threads too, and two of the sandbox's own. Without namespaces the kernel counts all processes of the user."""
    output_bytes: int = 64 * 1024
    """Of stdout and of stderr; a program that prints more is ended."""

    def as_rlimits(self) -> dict[str, int]:
        """For setrlimit, by name. No core files, no locked memory, no message queues."""
        return {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_CPU": self.cpu_seconds,
        }


@dataclass(frozen=True)
class Protections:
    """What stood around a program, beside the limits, which always hold."""

    namespaces: bool
    """It sees no file but Python's library and its scratch folder, no other process and no network, and its files
    together have a limit."""
    syscall_filter: bool
    """It cannot open a socket, start or signal a process, or ask the kernel for what is not its own."""
    unprivileged: bool
    """It does not run as root."""
    missing: tuple[str, ...] = ()
    """For each part that is not there, why."""

    @property
    def isolated(self) -> bool:
        """All of it: the user's files, processes and network are out of reach."""
        return self.namespaces and self.syscall_filter and self.unprivileged

    def in_words(self) -> str:
        """One line for the user."""
        if self.isolated:
            return "isolated: no network, no files but Python's own, no other processes"
        if self.namespaces:
            reach = "use the kernel's keys of the user and sockets to a virtual machine's host"
        elif self.unprivileged:
            reach = "read and change the user's files and, by way of these, do what the user can do"
        else:
            reach = "read and change all files and, by way of these, do what root can do"
        return f"not isolated: a program could {reach} ({'; '.join(self.missing)})"


NONE = Protections(False, False, False)


@dataclass(frozen=True)
class Ran:
    """How a program ended."""

    end: End
    """passed: it ran to its last line. failed: it raised, or left early, with whatever exit code. timeout: it used up
    its processor time or its time by the clock. memory: it asked for more and did not catch the MemoryError. output: it
    printed too much. killed: a signal ended it, such as that of a crash. not run: see stderr."""
    exit_code: int | None = None
    """As a shell's, or minus the number of the signal; None where the sandbox ended it or nothing was run."""
    stdout: str = ""
    stderr: str = ""
    """The last Limits.output_bytes of each; undecodable bytes are replaced."""
    seconds: float = 0.0
    """By the clock, starting the interpreter included."""
    protections: Protections = field(default=NONE, repr=False)


@dataclass(frozen=True)
class _Layers:
    """What to try. All of it; tests take parts away to see what the others hold."""

    namespaces: bool = True
    syscall_filter: bool = True


_layers = _Layers()


@functools.cache
def protections() -> Protections:
    """What this machine allows, found out by running a program that imports some of the library."""
    source = "import collections, hashlib, math, random, re, typing, zlib"
    ran = run_code(source, Limits(cpu_seconds=30, wall_seconds=60), require_isolation=False)
    if ran.end == "not run":
        return ran.protections
    if ran.end != "passed":
        raise RuntimeError(f"a program that does nothing ended with {ran.end!r} in the sandbox: {ran.stderr.strip()}")
    return ran.protections


def run_code(source: str, limits: Limits = Limits(), require_isolation: bool = True) -> Ran:
    """Run Python source and wait for its end; no process and no file of it is left after that.

    It runs under the module name "program", so that a part under `if __name__ == "__main__":` does not run, as in
    HumanEval's own harness. With require_isolation it is run only where `Protections.isolated` holds, and is "not run"
    otherwise. Threads may call this at the same time. RuntimeError means a fault in the sandbox, not in the program.
    """
    if not sys.platform.startswith("linux"):
        reason = f"the sandbox needs Linux, and this is {platform.system()}"
        return Ran("not run", stderr=reason, protections=Protections(False, False, os.getuid() != 0, (reason,)))
    token = secrets.token_hex(16)
    wanted_filter = _layers.syscall_filter and platform.machine() in MACHINES
    scratch = tempfile.mkdtemp(prefix="vnc_sandbox_")
    request = {
        "source": source,
        "token": token,
        "scratch": scratch,
        "require_isolation": require_isolation,
        "namespaces": _layers.namespaces,
        "filter": filter_program(platform.machine()).hex() if wanted_filter else "",
        "wall_seconds": limits.wall_seconds,
        "scratch_bytes": limits.scratch_bytes,
        "rlimits": limits.as_rlimits(),
    }
    try:
        start = time.perf_counter()
        watched = _start_and_watch(request, limits)
        return _judge(watched, token, limits, require_isolation, time.perf_counter() - start)
    finally:
        _remove(scratch)


@dataclass
class _Watched:
    """What came out of the guard and of the program."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    report: bytearray = field(default_factory=bytearray)
    too_much: bool = False
    guard_ended: bool = True
    """Whether the guard ended by itself, and not because it was killed after the grace time."""


def _start_and_watch(request: dict[str, Any], limits: Limits) -> _Watched:
    """The guard's life from here: start, drain what it and the program say, wait for its end."""
    # A hash seed, so that the order of sets is the same each time; the other options are those of -I, which would
    # leave the seed out, and -S: no site-packages, no folder of the caller's to import from.
    command = [os.path.realpath(sys.executable), *("-s", "-P", "-S", "-X", "utf8")]
    command += ["-c", START.format(str(Path(__file__).parent))]
    report, write_report = os.pipe()
    with tempfile.TemporaryFile() as stdin, open(report, "rb", buffering=0) as report_file:
        try:
            stdin.write(marshal.dumps(request))
            stdin.seek(0)
            guard = subprocess.Popen(
                [*command, str(write_report), str(os.getpid())],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=[write_report],
                env={"PYTHONHASHSEED": "0"},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the caller, who then ends the guard
            )
        finally:
            os.close(write_report)
        try:
            return _watch(guard, report_file, limits)
        finally:
            _end(guard)


def _watch(guard: subprocess.Popen[bytes], report: IO[bytes], limits: Limits) -> _Watched:
    watched = _Watched()
    assert guard.stdout is not None and guard.stderr is not None
    deadline = time.monotonic() + limits.wall_seconds + GRACE_SECONDS
    with selectors.DefaultSelector() as selector:
        for file, into in ((guard.stdout, watched.stdout), (guard.stderr, watched.stderr), (report, watched.report)):
            selector.register(file, selectors.EVENT_READ, into)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                watched.guard_ended = False
                return watched
            for key, _ in selector.select(left):
                read = os.read(key.fd, MIB // 16)
                if not read:
                    selector.unregister(key.fileobj)
                    continue
                key.data.extend(read)
                if key.data is not watched.report and len(key.data) > limits.output_bytes:
                    del key.data[: -limits.output_bytes]
                    if not watched.too_much:
                        watched.too_much = True
                        guard.terminate()
    return watched


def _end(guard: subprocess.Popen[bytes]) -> None:
    """By its own means if it has any, and then by force; the kernel ends a keeper whose guard is gone."""
    assert guard.stdout is not None and guard.stderr is not None
    guard.stdout.close()
    guard.stderr.close()
    guard.terminate()
    try:
        guard.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()


def _judge(watched: _Watched, token: str, limits: Limits, require_isolation: bool, seconds: float) -> Ran:
    lines = [ast.literal_eval(line.decode()) for line in watched.report.splitlines()]
    stdout, stderr = (bytes(said).decode(errors="replace") for said in (watched.stdout, watched.stderr))
    if not lines:
        raise RuntimeError(f"the sandbox did not start: {stderr.strip() or 'without a word'}")
    stood = Protections(**{**lines[0], "missing": tuple(lines[0]["missing"])})
    if require_isolation and not stood.isolated:
        return Ran("not run", stderr=stood.in_words(), seconds=seconds, protections=stood)
    told: dict[str, Any] = {}
    for line in lines[1:]:
        told |= line
    said, code = told.get("said", ""), told.get("exit_code")
    if said.startswith("broken "):
        raise RuntimeError(f"the sandbox cannot be set up: {said.removeprefix('broken ')}")
    end: End
    if watched.too_much:
        end = "output"
    elif code is None:  # the keeper did not live to tell it, as when the system is out of memory
        end = "timeout" if told.get("timeout") or not watched.guard_ended else "killed"
    elif code < 0:
        # The first signal at the limit is SIGXCPU; one that ignores it is killed a second later.
        spent = code == -signal.SIGXCPU or told["cpu_seconds"] >= limits.cpu_seconds
        end = "timeout" if spent else "killed"
    elif said == "memory":
        end = "memory"
    else:
        end = "passed" if code == 0 and said == token else "failed"
    return Ran(end, code, stdout, stderr, seconds, stood)


def _remove(scratch: str) -> None:
    """Also folders that the program has made unreadable."""
    for folder, names, _ in os.walk(scratch):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(scratch)
