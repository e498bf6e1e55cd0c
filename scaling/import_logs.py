"""`vnc scaling import`: logs of VibeNanoChat's scaling study (`scaling_laws_N*_F*.log`) as a CSV that
`vnc scaling fit --csv` reads.

A log is what a run printed. As read in VibeNanoChat's Makefile, trainer and plotting scripts (public repository
divyanshu25/VibeNanoChat, early 2026), a file is named after the depth (N) and the FLOPs budget (F). The lines used:

    Scaling parameters: 110,100,912      (matrices + head; earlier versions: "Model parameters", and before that
                                         "Num decay parameter tensors: ..., with 110,100,912 parameters")
    FLOPs per token: 7.586e+08           Total batch size: 524,288
    Number of iterations: 2,511          (or "Calculated number of iterations from target FLOPs", "Num iterations",
                                         "Total steps")
    Total training tokens: 1,316,487,168
    Total training FLOPs: 9.987e+17
    VALIDATION | Step  2510 | Val Loss: 2.9123 | BPB: 0.8512 | Time: 4.20s

Fields are taken as far as they exist. Tokens are iterations x batch size where they are not printed, FLOPs are tokens x
FLOPs per token, else the budget of the name. A run is left out, by name, when parameters, tokens or a BPB are missing,
or when its last validation came well before its last step: it was cut off, or is still going on. Logs hold no seed.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vnc.errors import UserError

NAME = re.compile(r"scaling_laws_N(?P<depth>\d+)_F(?P<budget>\d+(?:\.\d+)?(?:e\+?\d+)?)\.log", re.IGNORECASE)
NUMBER = r"\s*:?\s*([\d][\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)"
# The first pattern that is found counts; of its matches the last, as a resumed run prints its beginning again.
PARAMETERS = (
    rf"Scaling param(?:eter)?s{NUMBER}",
    rf"Model parameters{NUMBER}",
    r"Num decay parameter tensors[^\n]*?with ([\d,]+) parameters",
)
ITERATIONS = (
    rf"Total steps{NUMBER}",
    rf"Number of iterations(?: from target FLOPs)?{NUMBER}",
    rf"number of iterations from target FLOPs{NUMBER}",
    rf"Num iterations{NUMBER}",
)
BATCH = (rf"Total batch size{NUMBER}",)
TOKENS = (rf"Total training tokens{NUMBER}",)
FLOPS_PER_TOKEN = (rf"FLOPs per token{NUMBER}",)
TOTAL_FLOPS = (rf"Total training FLOPs{NUMBER}",)
VALIDATION = re.compile(r"VALIDATION[^\n]*?Step\s+(\d+)[^\n]*?BPB:\s*(\d+(?:\.\d+)?)")
UNFINISHED = 0.95  # a last validation before this share of the steps is not of the finished model
COLUMNS = ("name", "parameters", "tokens", "flops", "loss", "budget", "seed")


@dataclass(frozen=True)
class LoggedRun:
    name: str
    parameters: float
    """As the log counts them: matrices + head, or all matrices in the oldest."""
    tokens: float
    flops: float
    loss: float
    """Bits per byte at the last validation."""
    budget: float


def import_logs(logs: str, out: str) -> None:
    """Write a CSV of the runs whose logs lie in a folder.

    Args:
        logs: Folder with files named scaling_laws_N<depth>_F<FLOPs>.log, or one such file.
        out: CSV to write; must not be there yet.
    """
    source, target = Path(logs), Path(out)
    if not source.exists():
        raise UserError(f"--logs {logs}: no such file or folder")
    files = sorted(file for file in ([source] if source.is_file() else source.iterdir()) if NAME.fullmatch(file.name))
    if not files:
        raise UserError(f"--logs {logs}: no file there is named scaling_laws_N<depth>_F<FLOPs>.log")
    if target.exists():
        raise UserError(f"--out {out} is there already; choose another name")
    runs, left_out = [], []
    for file in files:
        try:
            runs.append(read_log(file.name, file.read_text(encoding="utf-8", errors="replace")))
        except ValueError as error:
            left_out.append(f"{file.name}: {error}")
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if not runs:
        raise UserError(f"--logs {logs}: none of the {len(files)} logs there can be used")
    write_csv(target, runs)
    print(f"{len(runs)} runs in {out}" + (f", {len(left_out)} left out" if left_out else ""))


def read_log(name: str, text: str) -> LoggedRun:
    """One run from the name and the text of its log. ValueError with what is missing."""
    named = NAME.fullmatch(name)
    if named is None:
        raise ValueError("not named scaling_laws_N<depth>_F<FLOPs>.log")
    budget = float(named["budget"])
    parameters, iterations, batch = (find(patterns, text) for patterns in (PARAMETERS, ITERATIONS, BATCH))
    tokens, per_token, flops = (find(patterns, text) for patterns in (TOKENS, FLOPS_PER_TOKEN, TOTAL_FLOPS))
    if tokens is None and iterations is not None and batch is not None:
        tokens = iterations * batch
    if not parameters:
        raise ValueError("it tells no number of parameters")
    if not tokens:
        raise ValueError("it tells neither the tokens nor iterations and batch size")
    validations = VALIDATION.findall(text)
    if not validations:
        raise ValueError("no validation (a line with VALIDATION, Step and BPB)")
    step, loss = int(validations[-1][0]), float(validations[-1][1])
    if iterations is None and batch is not None:
        iterations = tokens / batch
    if iterations is not None and step + 1 < UNFINISHED * iterations:
        raise ValueError(f"its last validation is of step {step:,} of {iterations:,.0f}: it did not finish")
    if flops is None:
        flops = tokens * per_token if per_token is not None else budget
    return LoggedRun(name.removesuffix(".log"), parameters, tokens, flops, loss, budget)


def find(patterns: Iterable[str], text: str) -> float | None:
    """The number behind the last match of the first pattern that has one."""
    for pattern in patterns:
        found = re.findall(pattern, text, re.IGNORECASE)
        if found:
            return float(found[-1].replace(",", ""))
    return None


def write_csv(path: Path, runs: Iterable[LoggedRun]) -> None:
    """Written beside its place, flushed, then renamed. The logs' runs have no seed: the column is 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for run in runs:
            numbers = (f"{value:.12g}" for value in (run.parameters, run.tokens, run.flops, run.loss, run.budget))
            writer.writerow([run.name, *numbers, 0])
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
