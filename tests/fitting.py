"""Runs of `vnc` inside the test process: small, quick, real."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import cli
from vnc.sharded_tensors import read_tensors

SMALL = [
    "--data", "TinyWorld", "--data.vocab_size", "512", "--data.val_tokens", "512", "--model.depth", "2",
    "--model.aspect_ratio", "16", "--model.head_dim", "16", "--model.sequence_len", "64",
    "--model.total_batch_tokens", "512", "--model.device_batch_size", "4", "--model.num_steps", "20",
    "--model.warmup_steps", "2",
    "--samples.every_n_steps", "0", "--trainer.log_every_n_steps", "1", "--trainer.val_check_interval", "10",
]  # fmt: skip


def vnc(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of `vnc` with these arguments; what it prints goes to capsys."""
    monkeypatch.setattr(sys, "argv", ["vnc", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every weight and every number of optimizer state of a checkpoint, whichever processes wrote it."""
    return {
        f"{part}.{name}": tensor
        for part in ("model", "optimizer")
        for name, tensor in read_tensors(checkpoint / part).items()
    }


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in json.loads((run / "run.json").read_text())["train"]]
