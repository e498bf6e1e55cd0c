"""A runs folder with two small chat models and a base model, made once; tests that change it get a copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from streamlit_app.runs_folder import VARIABLE
from tests.streamlit_app.parrot import CUCKOO, write_parrot
from vnc.evals.bundle import Bundle, Task
from vnc.evals.examples import LanguageModeling
from vnc.evals.gauntlet import Category, Gauntlet, GauntletResult
from vnc.evals.results import Outcome, SuiteResult, TaskResult


@pytest.fixture(autouse=True)
def on_one_thread(one_thread: None) -> None:
    """Every test of this folder."""


@pytest.fixture(scope="session")
def parrots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder that is only read: parrot (chat; `last` points to it), cuckoo (chat), base."""
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("app") / "runs"
    parrot = write_parrot(runs / "parrot" / "checkpoints" / "step_00000300")
    (parrot.parent / "last").symlink_to(parrot.name)
    write_parrot(runs / "cuckoo" / "checkpoints" / "step_00000020", CUCKOO)
    shutil.copytree(parrot, runs / "base" / "checkpoints" / "step_00000100")
    model = runs / "base" / "checkpoints" / "step_00000100" / "model.json"
    model.write_text(json.dumps(json.loads(model.read_text()) | {"chat": False}))
    return runs.resolve()


@pytest.fixture
def own_runs(parrots: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(parrots, tmp_path / "runs", symlinks=True)).resolve()


@pytest.fixture
def shown_runs(parrots: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs folder that the pages show."""
    monkeypatch.setenv(VARIABLE, str(parrots))
    return parrots


@pytest.fixture
def gauntlet(tmp_path: Path) -> Path:
    """A runs folder with a gauntlet's result: a category of three tasks, and one of which nothing was scored."""
    labels = ("animals", "places", "plants")
    tasks = tuple(Task(label, "language_modeling", 0, " ", 0.0, (LanguageModeling("a", "b"),) * 4) for label in labels)
    categories = Category("knowledge", tuple((label, 0) for label in labels)), Category("lost", (("gone", 0),))
    made = Gauntlet(Bundle(tasks), categories, {"all": ("knowledge", "lost"), "none": ("lost",)})
    results = []
    for right, label in enumerate(labels, start=1):
        outcomes = tuple(Outcome(row, row < right, None, None, (1.0,)) for row in range(4))
        results.append(TaskResult(label, "language_modeling", 0, 0.0, outcomes))
    values = GauntletResult(made, SuiteResult(tuple(results), ())).as_dict()
    folder = tmp_path / "gauntlet_runs"
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(values | {"suite": "gauntlet", "checkpoint": "somewhere"}))
    return folder
