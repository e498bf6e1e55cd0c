"""Runs of `vnc` in processes of their own, started in every way that a user may start them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tests.warm_start import ROOT, SET_BY_LAUNCHERS, WarmProcess

LIMIT = 90.0  # seconds for any run here, on a busy machine


class Process:
    """A Python process with its output; what it started ends with it at the latest when the test does."""

    def __init__(self, folder: Path, *arguments: object, **environment: object) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(SET_BY_LAUNCHERS)}
        quiet = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        given = {key: str(value) for key, value in environment.items()}
        self.popen = WarmProcess(list(map(str, arguments)), folder, inherited | quiet | given)
        self.out = self.err = ""

    def end(self) -> int:
        """The exit code; `out` and `err` are there then."""
        self.out, self.err = self.popen.communicate(timeout=LIMIT)
        return self.popen.returncode

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGTERM if self.popen.poll() is None else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(2)
            os.killpg(self.popen.pid, signal.SIGKILL)


@contextlib.contextmanager
def started(*processes: Process) -> Iterator[tuple[Process, ...]]:
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def fit(folder: Path, *arguments: object, **environment: object) -> Process:
    return Process(folder, "-m", "cli", "fit", "--trainer.accelerator", "cpu", *arguments, **environment)


def ranks(count: int, folder: Path, *arguments: object, **environment: object) -> list[Process]:
    """One run's processes on this machine, each told what the first one's launcher tells the others."""
    run = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "NODE_RANK": 0, "WORLD_SIZE": count, **environment}
    return [Process(folder, *arguments, "--trainer.devices", count, LOCAL_RANK=rank, **run) for rank in range(count)]


def ended(*processes: Process) -> list[int]:
    """Their exit codes."""
    with started(*processes):
        return [process.end() for process in processes]


def wait_for(condition: Callable[[], Any], *processes: Process) -> None:
    """Until the condition holds; no longer than LIMIT, and not when one of the processes has ended."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        assert all(process.popen.poll() is None for process in processes), [process.end() for process in processes]
        time.sleep(0.02)


def rows(run: Path) -> int:
    """Rows of metrics.csv."""
    path = run / "metrics.csv"
    return max(0, len(path.read_text().splitlines()) - 1) if path.is_file() else 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class SignalAt(Callback):
    """Sends this process SIGTERM, twice, in the middle of the training or the validation of a step."""

    def __init__(self, phase: str, step: int = 0, rank: int = 0) -> None:
        self.phase, self.step, self.rank = phase, step, rank

    def _send(self, trainer: Trainer, phase: str) -> None:
        if (phase, trainer.global_step, trainer.global_rank) == (self.phase, self.step, self.rank):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send(trainer, "start")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._send(trainer, "training")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send(trainer, "validation")


def signal_at(phase: str, step: int = 0, rank: int = 0) -> list[object]:
    """Arguments of `vnc fit` that add SignalAt."""
    values = {"phase": phase, "step": step, "rank": rank}
    options = [f"--trainer.callbacks.{name}={value}" for name, value in values.items()]
    return [f"--trainer.callbacks={SignalAt.__module__}.{SignalAt.__name__}", *options]
