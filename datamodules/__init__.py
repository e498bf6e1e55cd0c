"""Where rows come from: one LightningDataModule for each kind of data, over windows, lanes and packing.

The classes are imported when they are asked for, so that `vnc prepare` and others that need no torch start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.fineweb_edu import FineWebEdu
    from datamodules.local_text import LocalText
    from datamodules.openwebtext import OpenWebText
    from datamodules.task_mixture import TaskMixture
    from datamodules.tinyworld import TinyWorld

__all__ = ["FineWebEdu", "LocalText", "OpenWebText", "TaskMixture", "TinyWorld"]

_MODULES = {
    "FineWebEdu": "fineweb_edu",
    "LocalText": "local_text",
    "OpenWebText": "openwebtext",
    "TaskMixture": "task_mixture",
    "TinyWorld": "tinyworld",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
