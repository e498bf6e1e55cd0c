"""Fixtures for every test: where the shared real data lies (absent on most machines), and quiet, repeatable torch."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VNC_SHARED_DATA", SHARED))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set VNC_SHARED_DATA to use another place)")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch uses one thread in the test: tiny models only wait for the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
