"""Fixtures for every test: where the shared real data lies (absent on most machines), and quiet, repeatable torch."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.warm_start import SET_BY_LAUNCHERS

AT_START = dict(os.environ)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VNC_SHARED_DATA", SHARED))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set VNC_SHARED_DATA to use another place)")
    return folder


@pytest.fixture(autouse=True)
def no_leftovers_of_launchers() -> Iterator[None]:
    """A run inside the test process leaves its rank and port in the environment; the next test does without them."""
    yield
    for name in [name for name in os.environ if name.startswith(SET_BY_LAUNCHERS) and name not in AT_START]:
        del os.environ[name]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch uses one thread in the test: tiny models only wait for the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
