"""SIGKILL a training run again and again, one rank or all of them, resume it each time, and hold the end against a run
that was left alone.

    python benchmarks/soak.py [--runs 60] [--ranks 2] [--seed 0] [--asynchronous]

The run saves at every step, so that many kills fall into saving; about one kill in six comes while it starts. After a
kill every process of the run must have ended within LIMIT seconds, with a line that names the rank if a single one was
killed in training; `last` must open as a whole checkpoint, and what was published must still be there but for what
retention removes. At the end weights, optimizer state, data position and recorded losses must equal those of the
uninterrupted run bit for bit; a validation that a kill cut off may be missing. One line a kill, a summary, exit code 1
if anything failed. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from callbacks.checkpoint_writer import STEP_NAME, age
from vnc.checkpoint import load_model

LIMIT = 60.0  # seconds from the kill to the end of the last process
KEEP = 2  # checkpoints that retention leaves at least
STEPS_A_RUN = 12  # more than one run takes before it is killed
HEARTBEAT = 5


class Soak:
    def __init__(self, folder: Path, runs: int, ranks: int, asynchronous: bool) -> None:
        self.folder, self.ranks = folder, ranks
        self.settings = [
            "--data", "TinyWorld", "--data.vocab_size", "512", "--data.val_tokens", "512", "--model.depth", "2",
            "--model.aspect_ratio", "16", "--model.head_dim", "16", "--model.sequence_len", "64",
            "--model.total_batch_tokens", "1024", "--model.num_steps", str(STEPS_A_RUN * (runs + 1)),
            "--samples.every_n_steps", "0", "--trainer.log_every_n_steps", "1", "--trainer.val_check_interval", "20",
            "--trainer.accelerator", "cpu", "--trainer.devices", str(ranks),
            "--dist_muon.heartbeat_seconds", str(HEARTBEAT), "--dist_muon.timeout_seconds", "60",
            "--checkpoint.every_n_steps", "1", "--checkpoint.keep_last", str(KEEP),
            "--checkpoint.asynchronous", str(asynchronous).lower(),
        ]  # fmt: skip
        self.errors = folder / "errors.txt"  # what the newest run has said on its standard error
        self.start_seconds = 0.0  # from the command to the first checkpoint
        self.names: set[str] = set()  # of all tensors of a checkpoint

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """The command, in a session of its own: that is how its processes are found."""
        command = [sys.executable, "-m", "cli", "fit", *self.settings, "--name", name, "--resume", "true"]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        with self.errors.open("wb") as errors:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors,
                                    start_new_session=True)  # fmt: skip

    def finish(self, name: str) -> None:
        """Run to the end of the plan."""
        process, begun = self.start(name), time.monotonic()
        while process.poll() is None:
            time.sleep(0.01)
            if not self.start_seconds and self.checkpoint(name):
                self.start_seconds = time.monotonic() - begun
        if process.returncode != 0:
            sys.exit(f"the run that was to finish ended with exit code {process.returncode}:\n{self.said()}")

    def checkpoints(self, name: str) -> Path:
        return self.folder / "runs" / name / "checkpoints"

    def checkpoint(self, name: str) -> str:
        """The name of the one that `last` points to, or ""."""
        last = self.checkpoints(name) / "last"
        return last.resolve().name if last.exists() else ""

    def published(self) -> set[str]:
        found = self.checkpoints("killed")
        return {path.name for path in found.iterdir() if STEP_NAME.fullmatch(path.name)} if found.exists() else set()

    def said(self) -> str:
        return self.errors.read_text(errors="replace").strip()

    def kill_once(self, draw: random.Random) -> tuple[str, float, list[str], dict[str, bool]]:
        """Start or resume, kill, wait for the end: (what was done, seconds to the end, failures, what happened)."""
        before, published = self.checkpoint("killed"), self.published()
        process = self.start("killed")
        starting = draw.random() < 1 / 6
        if starting:
            time.sleep(draw.uniform(0, self.start_seconds))
        else:
            self.wait_for_steps(process, draw.randint(1, STEPS_A_RUN - 6))
            time.sleep(draw.uniform(0, 0.2))
        if process.poll() is not None:
            return "nobody: the run had ended by itself", 0.0, [f"it had ended by itself: {self.said()}"], {}
        ranks = ranks_of(process.pid)
        one = draw.random() < 2 / 3 and len(ranks) > 1
        victims = [draw.choice(sorted(ranks))] if one else sorted(ranks)
        at, published = self.checkpoint("killed"), published | self.published()
        for rank in victims:
            os.kill(ranks[rank], signal.SIGKILL)
        killed_at = time.monotonic()
        saving = any(self.checkpoints("killed").glob(".partial-*"))
        while (left := session(process.pid)) and time.monotonic() - killed_at < LIMIT:
            process.poll()
            time.sleep(0.02)
        seconds = time.monotonic() - killed_at
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        failures = [f"{len(left)} processes had not ended after {LIMIT:g} s"] if left else []
        if process.wait() == 0:
            failures.append("the exit code is 0")
        named = any(f"rank {victims[0]} " in line for line in self.said().splitlines() if line.startswith("error:"))
        if one and not starting and not named:
            failures.append(f"no line names rank {victims[0]}: {self.said()!r}")
        failures += self.check_kept(before, published)
        who = f"rank {victims[0]}" if one else f"all {len(victims)}"
        when = "starting" if starting else "saving" if saving else "training"
        happened = dict(saving=saving, starting=starting, one=one, named=one and named)
        return f"{who:<8} {when:<9} after {at or 'nothing'}", seconds, failures, happened

    def wait_for_steps(self, process: subprocess.Popen[bytes], steps: int) -> None:
        """Return when `last` has moved so many times, or the run has ended."""
        seen = self.checkpoint("killed")
        while steps and process.poll() is None:
            time.sleep(0.002)
            if (now := self.checkpoint("killed")) != seen:
                seen, steps = now, steps - 1

    def check_kept(self, before: str, published: set[str]) -> list[str]:
        """What is wrong with the checkpoints after a kill; `before`: where `last` pointed before the run, `published`:
        those that were there in the meantime."""
        failures, now = [], self.checkpoint("killed")
        if before and (not now or age(Path(now)) < age(Path(before))):
            failures.append(f"last points to {now or 'nothing'}, and pointed to {before}")
        there = sorted(self.published(), key=lambda name: age(Path(name)))
        oldest_kept = age(Path(there[-KEEP:][0])) if there else (0, 0)
        lost = [name for name in published - set(there) if age(Path(name)) > oldest_kept]
        if published and (len(there) < min(KEEP, len(published)) or lost):
            failures.append(f"lost: {lost}, left: {there}")
        if now:
            try:
                load_model(self.checkpoints("killed") / "last")
                if tensors(self.checkpoints("killed") / "last").keys() != self.names:
                    failures.append("last lacks tensors")
            except Exception as error:
                failures.append(f"last does not open: {error}")
        return failures

    def compare(self) -> list[str]:
        """How the end of the run that was killed differs from the uninterrupted one's."""
        mine, theirs = (tensors(self.checkpoints(name) / "last") for name in ("killed", "whole"))
        failures = [
            f"{name} differs" for name in theirs if name not in mine or not torch.equal(mine[name], theirs[name])
        ]
        positions = [(self.checkpoints(name) / "last" / "data.json").read_text() for name in ("killed", "whole")]
        records = [json.loads((self.folder / "runs" / name / "run.json").read_text()) for name in ("killed", "whole")]
        losses = [[(row["step"], row["loss"]) for row in record["train"]] for record in records]
        if losses[0] != losses[1]:
            steps = sorted({step for step, _ in set(losses[0]) ^ set(losses[1])})
            failures.append(f"recorded losses differ, at steps {steps[:10]}")
        validated, expected = ({row["step"]: row["bits_per_byte"] for row in record["val"]} for record in records)
        if not validated.items() <= expected.items():
            failures.append("recorded validations differ")
        # Training goes on from the step's checkpoint without repeating a validation that a kill cut off.
        print(
            f"validations that were cut off and are not in the record: {sorted(expected.keys() - validated) or 'none'}"
        )
        if positions[0] != positions[1]:
            failures.append("data positions differ")
        print(f"at the end: {len(theirs)} tensors and {len(losses[1])} losses compared, {len(failures)} differences")
        return failures


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state. A tensor that several shards hold parts of stands under one name for each."""
    return {
        f"{part}.{name}.{shard.stem if shard_of_several(shard) else ''}": tensor
        for part in ("model", "optimizer")
        for shard in sorted((checkpoint / part).glob("*.safetensors"))
        for name, tensor in load_file(shard).items()
    }


def shard_of_several(shard: Path) -> bool:
    return len(list(shard.parent.glob("*.safetensors"))) > 1


def session(leader: int) -> dict[int, int]:
    """{process: its parent} of the living processes of a session."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # ended in the meantime
                continue
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found[int(entry.name)] = int(fields[1])
    return found


def ranks_of(first: int) -> dict[int, int]:
    """{rank: process} of those that the process `first`, which is rank 0, has started so far."""
    ranks = {0: first}
    for process, parent in session(first).items():
        try:
            environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == first:
            ranks |= {int(line.partition(b"=")[2]): process for line in environment if line.startswith(b"LOCAL_RANK=")}
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60, help="runs that are killed")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--asynchronous", action="store_true", help="write checkpoints while training goes on")
    options = parser.parse_args()
    draw, failures, all_seconds, all_happened = random.Random(options.seed), [], [], []
    with tempfile.TemporaryDirectory() as place:
        soak = Soak(Path(place), options.runs, options.ranks, options.asynchronous)
        soak.finish("whole")
        soak.names = set(tensors(soak.checkpoints("whole") / "last"))
        for run in range(1, options.runs + 1):
            what, seconds, wrong, happened = soak.kill_once(draw)
            print(f"{run:>3}  {what:<40}{seconds:>6.1f} s  {'; '.join(wrong) or 'ok'}", flush=True)
            failures += wrong
            all_seconds.append(seconds)
            all_happened.append(happened)
        soak.finish("killed")
        failures += soak.compare()

    def count(*keys: str) -> int:
        return sum(all(happened.get(key) for key in keys) for happened in all_happened)

    print(f"{options.runs} kills, {count('saving')} while a checkpoint was being written, {count('starting')} while "
          f"starting; {count('one')} of a single rank, named {count('one', 'named')} times")  # fmt: skip
    print(f"from the kill to the end of the last process: median {statistics.median(all_seconds):.1f} s, at most "
          f"{max(all_seconds):.1f} s (limit {LIMIT:g} s)")  # fmt: skip
    print(f"{len(failures)} failures{''.join(f'; {failure}' for failure in failures[:5])}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
