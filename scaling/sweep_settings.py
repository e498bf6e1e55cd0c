"""What a run of a sweep is made of, in full: every option of `vnc fit` with its value, asked of `vnc fit` itself, so
that a sweep is refused for the same reasons as its runs would be, and before any of them starts.

The settings are kept in each run folder. A run that is there already belongs to the sweep only if its own are the same.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scaling.json_files import write_json
from scaling.sweep_plan import PlannedRun
from vnc.depth import make_plan
from vnc.errors import UserError

FILE_NAME = "sweep_settings.json"
NOT_OF_THE_RESULT = (
    "name", "runs_dir", "resume", "ckpt_path", "samples", "checkpoint", "trainer.devices", "trainer.num_nodes",
    "trainer.log_every_n_steps", "trainer.logger", "model.device_batch_size", "dist_muon.timeout_seconds",
    "dist_muon.heartbeat_seconds", "data.init_args.num_workers", "data.init_args.cache_dir",
)  # fmt: skip
"""Options that say where and how a run goes on, not what comes of it: these may change between two starts."""


def resolve(base_arguments: Sequence[str]) -> dict[str, Any]:
    """Every option of `vnc fit BASE_ARGUMENTS` with its value. UserError with what `vnc fit` has against them."""
    command = [sys.executable, "-m", "cli", "fit", *base_arguments, "--print_config"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        lines = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        raise UserError(f"the runs' configuration: {lines[-1].removeprefix('error: ')}")
    settings: dict[str, Any] = yaml.safe_load(asked.stdout)
    if settings["model"]["init_from"] is not None:
        raise UserError("the runs' configuration: model.init_from fixes the sizes; a sweep starts from random weights")
    return settings


def model_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the settings that `make_plan` takes."""
    known = inspect.signature(make_plan).parameters
    given = {key: value for key, value in settings["model"].items() if key in known and key != "stage"}
    if given["device_batch_size"] == "auto":  # by trial, on the device
        given["device_batch_size"] = None
    return given


def prepare_data(settings: Mapping[str, Any]) -> int:
    """Make what the data needs to be read: shards, vocabulary, tokens, once for all runs. Returns the number of ids of
    the vocabulary. The class is the one that the settings name."""
    module, _, name = settings["data"]["class_path"].rpartition(".")
    data = getattr(importlib.import_module(module), name)(**(settings["data"].get("init_args") or {}))
    data.prepare_data()
    data.setup("fit")
    return int(data.tokenizer.vocab_size)


def run_settings(settings: Mapping[str, Any], run: PlannedRun) -> dict[str, Any]:
    """The settings of one run by their full names, but for those that do not touch the result."""
    flat = flatten(settings) | {
        "model.depth": run.depth,
        "model.target_flops": run.budget,
        "seed_everything": run.seed,
        "data.init_args.seed": run.seed,
    }
    return {key: value for key, value in flat.items() if not key.startswith(NOT_OF_THE_RESULT)}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"model": {"depth": 2}} as {"model.depth": 2}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_same(folder: Path, settings: Mapping[str, Any]) -> None:
    """UserError if there is a run in `folder` that was made with other settings, or not by a sweep.

    Options that one of the two versions of vnc did not have are passed over."""
    path = folder / FILE_NAME
    if not begun(folder):
        return
    if not path.is_file():
        raise UserError(f"{folder} holds a run that no sweep has made; choose another name or --out")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove {folder} to run it anew") from None
    now = json.loads(json.dumps(settings))
    for key in now:
        if key in before and before[key] != now[key]:
            raise UserError(f"{folder}: {key} was {before[key]} when this run was made, now it is {now[key]}; set it "
                            "back, or give the sweep another name")  # fmt: skip


def begun(folder: Path) -> bool:
    """Whether there is anything of a run in `folder`."""
    return (folder / "run.json").exists() or (folder / "checkpoints").exists()


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keep them for the next start; those of a run that is there already stay."""
    if not begun(folder):
        write_json(folder / FILE_NAME, settings)
