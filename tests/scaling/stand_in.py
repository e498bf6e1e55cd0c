"""A stand-in for `vnc fit`: quick, obedient, and as wrong as a test wants it. `python -m cli` finds it in the working
directory before the real one. It writes run.json as vnc does, in the keys that a sweep reads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

PROGRAM = """
import json, os, pathlib, signal, sys, time

if "--print_config" in sys.argv:
    if pathlib.Path("refusal").exists():
        sys.exit("error: " + pathlib.Path("refusal").read_text())
    print(pathlib.Path("settings.yaml").read_text())
    sys.exit()
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
name = given["--name"]
folder = pathlib.Path(given["--runs_dir"], name)
behaviour = json.loads(pathlib.Path("behaviour.json").read_text()).get(name, "")
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
path = folder / "run.json"
done = json.loads(path.read_text())["train"][-1]["step"] + 1 if path.is_file() else 0
(folder / "starts").open("a").write(f"{os.getpid()} {done} {os.environ.get('OMP_NUM_THREADS')}\\n")

def record(status, reason=None):
    train = [{"step": done - 1, "loss": 3.0, "tokens_per_second": 1e4, "flops": done * 1e9}]
    value = {"status": status, "train": train, "val": [{"bits_per_byte": 1.5}], "hours": 0.5}
    (folder / "new").write_text(json.dumps(value | ({"reason": reason} if reason else {})))
    os.replace(folder / "new", path)

steps = 200 if behaviour == "long" else 4
while done < steps:
    done += 1
    record("running")
    print("step", done, flush=True)
    time.sleep(0.02)
    if behaviour == "killed" and done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "diverges" and done == 2:
        record("failed", "the loss diverged")
        print("error: training stopped at step 2: the loss diverged", file=sys.stderr)
        sys.exit(2)
    if behaviour == "stubborn":
        while True:
            time.sleep(1)
    if asked:
        record("interrupted", f"saved at step {done}")
        sys.exit()
record("finished")
"""
SETTINGS: dict[str, Any] = {
    "seed_everything": 1337,
    "trainer": {"accelerator": "cpu", "devices": 1},
    "model": dict(preset="modern", depth=12, aspect_ratio=16, head_dim=16, sequence_len=256, window_pattern="L",
                  num_steps=None, target_flops=None, total_batch_tokens=4096, device_batch_size="auto",
                  warmup_steps=20, init_from=None, stage="auto"),
    "data": {"class_path": f"{__name__}.Data", "init_args": {"seed": 1337, "folder": "data"}},
}  # fmt: skip


class Vocabulary:
    vocab_size = 1024


class Data:
    """A data module as far as a sweep asks it."""

    tokenizer = Vocabulary()

    def __init__(self, seed: int, folder: str) -> None:
        self.folder = Path(folder)

    def prepare_data(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "prepared").open("a") as file:
            file.write("once\n")

    def setup(self, stage: str) -> None:
        assert (self.folder / "prepared").is_file()


def stand_in(home: Path, patch: pytest.MonkeyPatch, settings: dict[str, Any] = SETTINGS, **behaviour: str) -> None:
    """Make `home` the working directory, with the stand-in there; behaviour by the name of the run."""
    patch.chdir(home)
    (home / "cli.py").write_text(PROGRAM)
    (home / "base.yaml").write_text("{}")
    (home / "settings.yaml").write_text(yaml.safe_dump(settings))
    (home / "behaviour.json").write_text(json.dumps(behaviour))


def sweep_file(home: Path, **values: object) -> str:
    path = home / "sweep.yaml"
    whole = dict(name="mine", depths=[2, 3, 4], budgets=[1e12], config="base.yaml") | values
    path.write_text(yaml.safe_dump(whole))
    return str(path)


def starts(folder: Path) -> list[list[str]]:
    """Process, first step and threads of each start of a run."""
    path = folder / "starts"
    return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


def until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
