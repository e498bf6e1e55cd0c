"""SIGKILL a training run again and again, resume it each time, and hold the end against a run that was left alone.

    python benchmarks/kill_and_resume.py [KILLS] [SEED]

The run saves at every step, so that many kills fall into saving. After each kill `last` must open as a whole
checkpoint; at the end weights, optimizer state and losses must equal the uninterrupted run's bit for bit.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from vnc.checkpoint import load_model

STEPS = 400
SETTINGS = [
    "--data", "TinyWorld", "--data.vocab_size", "512", "--data.val_tokens", "512", "--model.depth", "2",
    "--model.aspect_ratio", "16", "--model.head_dim", "16", "--model.sequence_len", "64",
    "--model.total_batch_tokens", "512", "--model.num_steps", str(STEPS), "--samples.every_n_steps", "0",
    "--trainer.log_every_n_steps", "1", "--checkpoint.every_n_steps", "1",
]  # fmt: skip


def start(folder: Path, name: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "cli", "fit", *SETTINGS, "--name", name, "--resume", "true"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def tensors(run: Path) -> dict[str, torch.Tensor]:
    last = run / "checkpoints" / "last"
    return {
        f"{part}.{name}": tensor
        for part in ("model", "optimizer")
        for shard in (last / part).glob("*.safetensors")
        for name, tensor in load_file(shard).items()
    }


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    draw = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if start(folder, "whole").wait() != 0:
            sys.exit("the uninterrupted run failed")
        run, steps, saving = folder / "runs" / "killed", [], 0
        last = run / "checkpoints" / "last"
        while len(steps) < kills:
            process, before = start(folder, "killed"), last.resolve().name
            while process.poll() is None and (not last.exists() or last.resolve().name == before):
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.3))
            if process.poll() is not None:
                sys.exit(f"the run ended by itself after {len(steps)} kills; raise STEPS")
            process.send_signal(signal.SIGKILL)
            process.wait()
            saving += any((run / "checkpoints").glob(".partial-*"))
            load_model(run)
            steps.append(json.loads((last / "trainer.json").read_text())["global_step"])
        if start(folder, "killed").wait() != 0:
            sys.exit("the last resume failed")
        mine, theirs = tensors(run), tensors(folder / "runs" / "whole")
        same = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in theirs)
        losses = [
            [row["loss"] for row in json.loads((folder / "runs" / name / "run.json").read_text())["train"]]
            for name in ("killed", "whole")
        ]
    print(f"{kills} kills, {saving} of them while a checkpoint was being written, at steps {steps}")
    print(f"{len(theirs)} tensors of the final checkpoint equal: {same}")
    print(f"{len(losses[0])} of {len(losses[1])} losses recorded, equal: {losses[0] == losses[1]}")
    sys.exit(0 if same and losses[0] == losses[1] else 1)


if __name__ == "__main__":
    main()
