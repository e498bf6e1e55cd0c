"""Lightning needs torchmetrics, and torchmetrics imports scipy.signal: only to give it back a function that it had
once, which nothing here calls. That takes a fifth of the time that `vnc fit` needs for its imports."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def import_torchmetrics() -> None:
    """Import torchmetrics without scipy.signal, whose place an empty module keeps meanwhile. Whoever imports
    scipy.signal later gets the real one."""
    name = "scipy.signal"
    if name in sys.modules:
        return
    stand_in = ModuleType(name)
    stand_in.hamming = None  # type: ignore[attr-defined]  # what torchmetrics looks for
    sys.modules[name] = stand_in
    try:
        importlib.import_module("torchmetrics")
    finally:
        del sys.modules[name]
