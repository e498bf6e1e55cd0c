"""Real little runs for the pages to show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fitting import SMALL, vnc
from tests.vnc.evals.conftest import write_bundle

FEW = ["--model.num_steps", "10", "--trainer.accelerator", "cpu", "--trainer.val_check_interval", "5"]
CORE = ["--core_eval.every_n_steps", "5", "--core_eval.max_examples", "6", "--core_eval.bundle", "bundle"]
CHATCORE = [
    "--chatcore_eval.every_n_steps",
    "10",
    "--chatcore_eval.bundle",
    "chat",
    "--chatcore_eval.max_examples",
    "2",
]


def train(folder: Path, *names: str) -> Path:
    """`vnc fit` in `folder`, ten steps with benchmarks for each name; returns the runs folder. The second run is wider
    than the first."""
    if not (folder / "bundle").exists():
        write_bundle(folder / "bundle")
        (folder / "chat").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for place, name in enumerate(names):
            width = ["--model.aspect_ratio", str(16 * (place + 1))]
            assert vnc(patch, "fit", *SMALL, *FEW, *CORE, *CHATCORE, *width, "--name", name) == 0
    return folder / "runs"
