"""Fixtures for every test: where the shared real data lies (absent on most machines), and quiet, repeatable torch."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("VNC_SHARED_DATA", SHARED))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set VNC_SHARED_DATA to use another place)")
    return folder
