"""Runs as processes of this machine: one after another, or several at a time with the devices divided among them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scaling import run_alone
from scaling.sweep_plan import PlannedRun
from scaling.sweep_progress import LOG_NAME
from vnc.errors import UserError

LOCK_NAME = ".lock"


def fit_arguments(base_arguments: Sequence[str], run: PlannedRun, folder: Path) -> list[str]:
    """`vnc` and these train the run in `folder`, or go on with it."""
    return [
        "fit", *base_arguments, "--model.depth", str(run.depth), "--model.target_flops", repr(run.budget),
        "--seed_everything", str(run.seed), "--data.seed", str(run.seed), "--name", folder.name,
        "--runs_dir", str(folder.parent), "--resume", "true",
    ]  # fmt: skip


def popen(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """`vnc ARGUMENTS`, tied to this process and alone on the run in `folder`; its output goes on in the log there.

    It is in a session of its own: Ctrl-C reaches the sweep, which asks its runs to save."""
    folder.mkdir(parents=True, exist_ok=True)
    alone = [sys.executable, "-S", str(Path(run_alone.__file__)), str(folder / LOCK_NAME), str(os.getpid())]
    with (folder / LOG_NAME).open("ab") as log:
        log.write(f"$ vnc {shlex.join(arguments)}\n".encode())
        log.flush()
        return subprocess.Popen(
            [*alone, sys.executable, "-m", "cli", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ) | dict(environment),
            start_new_session=True,
        )  # fmt: skip


def how_ended(code: int) -> str:
    """An exit code in words; empty for 0."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""


class ProcessJob:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def ended(self) -> str | None:
        code = self.process.poll()
        return None if code is None else how_ended(code)

    def waits(self) -> None:
        return None

    def stop(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # and the processes that it has started


class Processes:
    """Launches runs as children of this process, `len(environments)` of them at a time."""

    def __init__(self, base_arguments: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        self.base_arguments = list(base_arguments)
        self.environments = list(environments)
        self.holders: list[ProcessJob | None] = [None] * len(environments)

    @property
    def slots(self) -> int:
        return len(self.environments)

    def start(self, runs: Sequence[tuple[PlannedRun, Path]]) -> list[ProcessJob]:
        return [self._start(run, folder) for run, folder in runs]

    def _start(self, run: PlannedRun, folder: Path) -> ProcessJob:
        place = next(i for i, holder in enumerate(self.holders) if holder is None or holder.ended() is not None)
        job = ProcessJob(popen(fit_arguments(self.base_arguments, run, folder), folder, self.environments[place]))
        self.holders[place] = job
        return job


def divide(
    jobs: int, gpus: Sequence[str], devices: int | None, cores: int, environment: Mapping[str, str]
) -> list[dict[str, str]]:
    """What is added to the environment of each of `jobs` runs that go on side by side.

    Args:
        jobs: Runs at a time.
        gpus: Those of this machine that may be used, as CUDA_VISIBLE_DEVICES names them; none when runs use the CPU.
        devices: GPUs of one run; None for all that it sees.
        cores: Processor cores of this machine.
        environment: What runs inherit; a number of threads that it gives is left alone.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1")
    if jobs == 1:
        return [{}]
    threads = {} if "OMP_NUM_THREADS" in environment else {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    if not gpus:
        return [dict(threads) for _ in range(jobs)]
    share = len(gpus) // jobs
    if share < max(1, devices or 1):
        each = f"{devices} each" if devices and devices > 1 else "one each"
        raise UserError(f"--jobs {jobs}: {len(gpus)} GPUs are not enough for {jobs} runs with {each}; lower --jobs")
    return [threads | {"CUDA_VISIBLE_DEVICES": ",".join(gpus[k * share : (k + 1) * share])} for k in range(jobs)]


def visible_gpus(accelerator: str) -> list[str]:
    """The GPUs that a run with this trainer.accelerator would see, as CUDA_VISIBLE_DEVICES names them."""
    if accelerator == "cpu":
        return []
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in named.split(",")][:count] if named else [str(index) for index in range(count)]


def cores() -> int:
    """Processor cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
