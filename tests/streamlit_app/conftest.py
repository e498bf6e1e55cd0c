"""A runs folder with two small chat models and a base model, made once; tests that change it get a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from streamlit_app.runs_folder import VARIABLE
from tests.streamlit_app.parrot import CUCKOO, write_parrot


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
