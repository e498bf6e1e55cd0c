"""What the sandbox's tests have in common: a sandbox with parts of it taken away, and that no program leaves anything
behind."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vnc.evals.sandbox
from vnc.evals.sandbox import Limits, Ran, protections, run_code

REPOSITORY = Path(__file__).resolve().parents[3]
SYSTEM_PYTHON = Path("/usr/bin/python3")
SHORT = Limits(cpu_seconds=1, wall_seconds=1.5)
LAYERS = {"all": (True, True), "namespaces": (True, False), "filter": (False, True), "limits": (False, False)}

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")


def use(layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take parts of the sandbox away, to see that each of the others holds alone what it is there for."""
    wanted = vnc.evals.sandbox._Layers(*LAYERS[layers])
    if wanted.namespaces and not protections().namespaces:
        pytest.skip(f"no namespaces on this machine: {protections().missing}")
    if wanted.syscall_filter and not protections().syscall_filter:
        pytest.skip(f"no system-call filter on this machine: {protections().missing}")
    monkeypatch.setattr(vnc.evals.sandbox, "_layers", wanted)


def run(source: str, limits: Limits = SHORT) -> Ran:
    return run_code(source, limits, require_isolation=False)


def children() -> set[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if parent(pid) == os.getpid()}


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Orphans become children of this process, which therefore sees what a program has left running; and the folder of
    temporary files is empty afterwards."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)
    folder = tmp_path / "temporary"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = children()
    yield
    left = children() - before
    libc.prctl(36, 0, 0, 0, 0)
    assert not left
    assert not list(folder.iterdir())
