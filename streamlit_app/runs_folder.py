"""The folder that the app shows, and the rule that nothing outside it is opened."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "VNC_APP_RUNS_DIR"
"""Environment variable by which `vnc app` tells the pages, which run in another process, its --runs_dir."""


def runs_folder() -> Path:
    """The runs folder, absolute, with symbolic links followed. It need not exist."""
    return Path(os.environ.get(VARIABLE, "runs")).resolve()


def lies_within(path: Path, folder: Path) -> bool:
    """Whether `path`, with every symbolic link in it followed, is `folder` or below it. `folder` is resolved already.
    False for a path that is not there."""
    try:
        return path.resolve(strict=True).is_relative_to(folder)
    except (OSError, RuntimeError):  # gone, or links that go round in a circle
        return False
