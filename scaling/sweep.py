"""`vnc scaling sweep`: train every model of a grid of depths, FLOPs budgets and seeds.

Given again, the command goes on: what is finished is left alone, what was cut off is resumed, what has failed is tried
once more. One run's failure is shown and stays its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from scaling.json_files import write_json
from scaling.processes import Processes, cores, divide, visible_gpus
from scaling.submitit_runner import Submitit
from scaling.sweep_config import SweepConfig, read_sweep
from scaling.sweep_plan import plan_runs, warnings
from scaling.sweep_runner import Entry, Launcher, StopRequests, run_all
from scaling.sweep_settings import check_same, model_arguments, prepare_data, resolve, run_settings
from scaling.sweep_table import Display, plan_table, wide_console
from vnc.errors import UserError

Executor = Literal["processes", "local", "slurm"]

RECORD = "sweep.json"
LOCK = ".sweep.lock"


def sweep(
    config: str,
    out: str | None = None,
    jobs: int = 1,
    executor: Executor = "processes",
    plan: bool = False,
) -> None:
    """Train every model of a grid; see configs/sweep.yaml.

    Args:
        config: YAML with the grid and what the runs share.
        out: Folder of the sweep, in which each run has its own; runs/NAME when null.
        jobs: Runs at a time; the devices of this machine are divided among them.
        executor: processes of this machine, or jobs of a cluster through submitit: slurm, or its local stand-in.
        plan: Only print what would be trained, with the warnings.
    """
    wanted = read_sweep(Path(config))
    folder = Path(out) if out is not None else Path("runs") / wanted.name
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1")
    settings = resolve(wanted.base_arguments)
    devices = settings["trainer"]["devices"]
    entries = planned(wanted, settings, folder, devices if isinstance(devices, int) and devices > 0 else 1)
    console = wide_console()
    if plan:
        console.print(plan_table(entries[:: len(wanted.seeds)]))
    for warning in warnings([entry.run for entry in entries]):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if plan:
        return
    for entry in entries:
        check_same(entry.folder, entry.settings)
        if entry.progress.status == "finished":
            entry.state = "finished"
    launcher = launcher_for(wanted, settings, folder, jobs, executor)
    with alone_in(folder):
        requests = StopRequests()
        with requests.noted(), Display(entries, jobs, wanted.price_per_hour, console) as display:
            recorder = Recorder(folder / RECORD, wanted.name, entries)

            def show() -> None:
                recorder.update()
                display.update()

            run_all(entries, launcher, requests, show)
    conclusion(entries, requests, config)


def planned(wanted: SweepConfig, settings: dict[str, Any], folder: Path, world_size: int) -> list[Entry]:
    """The runs, with the data's vocabulary made if need be."""
    runs = plan_runs(wanted.grid, model_arguments(settings), prepare_data(settings), world_size)
    return [Entry(run, folder / run.name, run_settings(settings, run)) for run in runs]


def launcher_for(
    wanted: SweepConfig,
    settings: dict[str, Any],
    folder: Path,
    jobs: int,
    executor: Executor,
) -> Launcher:
    devices, accelerator = settings["trainer"]["devices"], settings["trainer"]["accelerator"]
    count = devices if isinstance(devices, int) and devices > 0 else None
    if executor == "processes":
        gpus = visible_gpus(accelerator)
        environments = divide(jobs, gpus, count, cores(), os.environ)
        return Processes(wanted.base_arguments, environments)
    gpus_of_a_job = 0 if accelerator == "cpu" else count or 1
    return Submitit(executor, wanted.base_arguments, folder, jobs, wanted.submitit, gpus_of_a_job)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No second sweep in this folder meanwhile. Its lock goes with this process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another sweep is at work there; wait for it, or choose another --out") from None
        yield


class Recorder:
    """Keeps sweep.json, what has become of each run, as states change."""

    def __init__(self, path: Path, name: str, entries: Sequence[Entry]) -> None:
        self.path, self.name, self.entries = path, name, entries
        self.written: list[Any] = []

    def update(self) -> None:
        runs = [
            {"name": entry.run.name, "depth": entry.run.depth, "budget": entry.run.budget, "seed": entry.run.seed,
             "state": entry.state, "reason": entry.reason, "log": str(entry.log)}
            for entry in self.entries
        ]  # fmt: skip
        if runs != self.written:
            write_json(self.path, {"name": self.name, "runs": runs})
            self.written = runs


def conclusion(entries: Sequence[Entry], requests: StopRequests, config: str) -> None:
    """SystemExit unless all runs are finished: 128 + the signal that stopped the sweep, else 1."""
    for entry in entries:
        if entry.state == "failed" or (entry.state == "interrupted" and not requests.received):
            print(f"{entry.run.name} {entry.state}: {entry.reason} (log: {entry.log})", file=sys.stderr)
    if requests.received and any(entry.state != "finished" for entry in entries):
        print("stopped: give the same command again to go on", file=sys.stderr)
        raise SystemExit(128 + requests.received[0])
    missing = sum(entry.state != "finished" for entry in entries)
    if missing:
        print(f"{missing} of {len(entries)} runs did not finish and are left out of fits; the same command tries them "
              "again", file=sys.stderr)  # fmt: skip
        raise SystemExit(1)
