"""The most rows of a micro-batch that fit on a device, by trial: `--model.device_batch_size auto`.

The trial has a process of its own, `python -m vnc.batch_trial`, that takes its memory with it when it ends. It reads a
`Request` as JSON and writes a line of JSON, a `Trial`, for each number tried.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vnc.batch_size import is_out_of_memory, release_memory, share_of_rows
from vnc.depth import MAX_DEVICE_BATCH_SIZE, TrainingPlan
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.optimizer import MuonAdamW
from vnc.precision import DTYPES
from vnc.processes import Processes
from vnc.rows import inputs_and_targets
from vnc.wire import Transfer, Wire

MAX_ROWS = {"cpu": MAX_DEVICE_BATCH_SIZE, "cuda": 512}  # tried; more are no faster
SHARE = {"cpu": 0.8, "cuda": 0.95}  # of the free memory that training may take; others use a CPU's too
MEASURING_SECONDS = 120.0  # on a CPU, where rows take seconds each and large micro-batches win little
TRIAL_SECONDS = 900.0  # for the whole trial


def agree_on_rows(plan: TrainingPlan, strategy: Any, compute_dtype: torch.dtype) -> tuple[int, str]:
    """(the largest device_batch_size that fits, what to say of it), the same on all processes of the run: rank 0 tries.

    `strategy` is the trainer's; what it does not know of dist_muon's options has their defaults."""
    processes: Processes = getattr(strategy, "processes", Processes())
    answer: tuple[int, str] | str = ""
    if processes.rank == 0:
        device = strategy.root_device
        names = {dtype: name for name, dtype in DTYPES.items()}
        options = {key: getattr(strategy, key) for key in ("reduce_every_micro_batch", "ordered", "overlap")
                   if hasattr(strategy, key)}  # fmt: skip
        seconds = min(TRIAL_SECONDS, 0.8 * getattr(strategy, "timeout_seconds", math.inf))
        # Processes on CPUs of one machine share its memory.
        memory = available_memory() // getattr(strategy, "num_processes", 1)
        try:
            request = Request(
                plan.to_dict(),
                candidates(plan, device),
                str(device),
                names[compute_dtype],
                names[getattr(strategy, "gather_dtype", torch.float32)],
                memory=memory if device.type == "cpu" else None,
                **options,
            )
            best, said = largest_that_fits(request, seconds)
            answer = best.device_batch_size, said
        except UserError as error:
            answer = str(error)
    answer = processes.agree(answer)
    if isinstance(answer, str):
        raise UserError(answer)
    return answer


@dataclass(frozen=True)
class Request:
    """All that memory depends on; JSON-able."""

    plan: dict[str, Any]
    """`TrainingPlan.to_dict()`; its world_size decides what one process holds."""
    candidates: list[int]
    device: str
    compute_dtype: str
    gather_dtype: str = "float32"
    reduce_every_micro_batch: bool = True
    ordered: bool = True
    overlap: bool = True
    memory: int | None = None
    """Bytes of free memory for this process; None on CUDA, where the trial itself asks the device."""


@dataclass(frozen=True)
class Trial:
    """One number of rows, tried."""

    device_batch_size: int
    fits: bool
    peak: int
    """Bytes that training takes; where it does not fit, a lower bound."""
    limit: int
    """Bytes that it may take."""

    def __str__(self) -> str:
        return f"{self.peak / 1e9:.3g} GB of {self.limit / 1e9:.3g} GB"


def candidates(plan: TrainingPlan, device: torch.device) -> list[int]:
    """Numbers of rows that divide a process's share, from small to large. UserError for a device without a trial."""
    if device.type not in MAX_ROWS:
        raise UserError(f"device_batch_size=auto: no trial on {device.type}; give a number")
    share = share_of_rows(plan)
    return [n for n in range(1, MAX_ROWS[device.type] + 1) if share % n == 0]


def largest_that_fits(request: Request, seconds: float = TRIAL_SECONDS) -> tuple[Trial, str]:
    """(the largest candidate that fits, what to say of it). UserError when none does, or the trial fails."""
    command = [sys.executable, "-P", "-m", "vnc.batch_trial"]
    path = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    text = json.dumps(dataclasses.asdict(request)).encode()
    failure = None
    try:
        ended = subprocess.run(command, input=text, capture_output=True, env=environment, timeout=seconds)
        output = ended.stdout
        if ended.returncode:
            words = ended.stderr.decode(errors="replace").split("\n")
            failure = next((line for line in reversed(words) if line), f"exit code {ended.returncode}")
    except subprocess.TimeoutExpired as error:
        output, failure = error.stdout or b"", f"it took more than {seconds:.0f} s"
    trials = [Trial(**json.loads(line)) for line in output.decode().splitlines()]
    fitting = [trial for trial in trials if trial.fits]
    if not fitting and failure is not None:
        raise UserError(f"device_batch_size=auto: the trial failed ({failure}); give a number")
    if not fitting:
        raise UserError(f"device_batch_size=auto: not even one row of sequence_len="
                        f"{request.plan['config']['sequence_len']} fits into {trials[-1].limit / 1e9:.3g} GB; lower "
                        "model.sequence_len or model.depth, or train on more devices")  # fmt: skip
    best = max(fitting, key=lambda trial: trial.device_batch_size)
    larger = any(trial.device_batch_size > best.device_batch_size for trial in trials)
    return best, f"device_batch_size {best.device_batch_size}: the largest that {'fits' if larger else 'was tried'}, " \
                 f"by trial: {best}"  # fmt: skip


def available_memory() -> int:
    """Bytes of this machine's memory that can be had without swapping."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # others use the rest


# The process that tries.


class SilentWire(Wire):
    """The wire of a process that is alone and claims to be one of many: it holds what that one would hold, and sends
    nothing. What it would receive is its own, so that the numbers stay ordinary ones."""

    def reduce_scatter(self, part: torch.Tensor, full: torch.Tensor) -> Transfer:
        part.view(-1).copy_(full[self.rank].view(-1))
        return Transfer(None, part, full)

    def exchange(self, received: torch.Tensor, full: torch.Tensor) -> Transfer:
        received.copy_(full)
        return Transfer(None, received, full)

    def all_gather(self, full: torch.Tensor, part: torch.Tensor) -> Transfer:
        if full.untyped_storage().data_ptr() != part.untyped_storage().data_ptr():
            full.view(self.world_size, -1).copy_(part.view(1, -1))
        return Transfer(None, full, part)

    def all_reduce(self, tensor: torch.Tensor) -> Transfer:
        return Transfer(None, tensor)


class Trainee:
    """A model and its optimizer as one process of a run has them."""

    def __init__(self, request: Request) -> None:
        self.plan = TrainingPlan.from_dict(request.plan, "the plan of the trial")
        self.device = torch.device(request.device)
        with torch.device("meta"):
            self.gpt = GPT(self.plan.config, DTYPES[request.compute_dtype])
        self.gpt.to_empty(device=self.device)
        self.gpt.init_weights()
        self.optimizer = MuonAdamW(
            self.gpt,
            self.plan,
            SilentWire(0, self.plan.world_size),
            reduce_every_micro_batch=request.reduce_every_micro_batch,
            ordered=request.ordered,
            overlap=request.overlap,
            gather_dtype=DTYPES[request.gather_dtype],
        )

    def train(self, device_batch_size: int, steps: int = 2) -> None:
        """A few steps of up to two micro-batches: more take no more memory."""
        config, reducer = self.plan.config, self.optimizer.reducer
        micro_batches = min(2, share_of_rows(self.plan) // device_batch_size)
        shape = (micro_batches, device_batch_size, config.sequence_len + 1)
        rows = torch.randint(config.vocab_size, shape, dtype=torch.int32, device=self.device)
        for step in range(steps):
            for i, (inputs, targets) in enumerate(zip(*inputs_and_targets(rows), strict=True)):
                reducer.begin(last=i == micro_batches - 1)
                (self.gpt.summed_loss(inputs, targets) / rows.numel()).backward()  # type: ignore[no-untyped-call]
                reducer.flush()
            self.optimizer.finish_gradients()
            self.optimizer.owned_square()
            self.optimizer.set_schedule(self.plan, step)
            self.optimizer.step()
            self.optimizer.zero_grad()


def try_on_cuda(request: Request) -> Iterator[Trial]:
    """From large to small, up to the first that fits."""
    device = torch.device(request.device)
    torch.cuda.set_device(device)
    free, total = torch.cuda.mem_get_info(device)
    limit = int(SHARE["cuda"] * free)
    torch.cuda.set_per_process_memory_fraction(limit / total, device)  # beyond it the allocator runs out of memory
    try:
        trainee = Trainee(request)
    except torch.OutOfMemoryError:
        yield Trial(min(request.candidates), False, limit, limit)
        return
    for rows in sorted(request.candidates, reverse=True):
        torch.cuda.reset_peak_memory_stats(device)
        fits = True
        try:
            trainee.train(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        yield Trial(rows, fits, torch.cuda.max_memory_reserved(device) if fits else limit, limit)
        if fits:
            return
        trainee.optimizer.zero_grad()
        release_memory(device)


def try_on_cpu(request: Request) -> Iterator[Trial]:
    """From small to large, up to the first that would not fit: a CPU's allocator never says no, the system kills."""
    assert request.memory is not None
    limit = int(SHARE["cpu"] * request.memory)
    before = peak_resident()
    started = time.monotonic()
    trainee = Trainee(request)
    built = peak_resident() - before
    last = Trial(0, True, built, limit)
    for rows in sorted(request.candidates):
        for_each_row = (last.peak - built) / max(1, last.device_batch_size)
        expected = last.peak + round(for_each_row * (rows - last.device_batch_size))
        if expected > limit:
            yield Trial(rows, False, expected, limit)
            return
        began = time.monotonic()
        # The high-water mark stays, so the first number has shown what a second step adds.
        trainee.train(rows, steps=1 if last.device_batch_size else 2)
        peak = peak_resident() - before
        last = Trial(rows, peak <= limit, peak, limit)
        yield last
        if not last.fits or time.monotonic() - started + 2 * (time.monotonic() - began) > MEASURING_SECONDS:
            return


def peak_resident() -> int:
    """The most bytes of memory that this process has had so far."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    import resource  # elsewhere than on Linux; there its figure includes the parent's

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main() -> None:
    """A `Request` on stdin, a line for each `Trial` on stdout, at once: the system may kill this process."""
    request = Request(**json.load(sys.stdin))
    tried = try_on_cuda(request) if torch.device(request.device).type == "cuda" else try_on_cpu(request)
    for trial in tried:
        print(json.dumps(dataclasses.asdict(trial)), flush=True)


if __name__ == "__main__":
    main()
