"""Running `vnc prepare` in and beside the test process, and reading what it made."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import cli

ROOT = Path(__file__).parents[3]

# The package is put in place without its __init__, which would import torch at each of many starts; the disk is made
# slow, so that there are many moments to be killed at.
CHILD = """
import os, sys, time, types
real_fsync = os.fsync
os.fsync = lambda descriptor: (time.sleep({slow}), real_fsync(descriptor))[1]
package = types.ModuleType("datamodules")
package.__path__ = ["datamodules"]
sys.modules["datamodules"] = package
import datamodules.prepare.batches as batches, datamodules.prepare.spill as spill
spill.COMMIT_BYTES, batches.BATCH_DOCUMENTS = {commit_bytes}, {batch}
import cli
sys.argv = ["vnc", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture
def vnc_prepare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """vnc_prepare(*arguments): exit code, stdout and stderr of `vnc prepare ...` in this process."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["vnc", "prepare", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        return int(code), printed.out, printed.err

    return run


@pytest.fixture
def refused(vnc_prepare: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """refused(*arguments): the one line of an error that ends with exit code 2."""

    def run(*arguments: object) -> str:
        code, _, error = vnc_prepare(*arguments)
        lines = error.strip().splitlines()
        assert code == 2 and lines[-1].startswith("error: ") and "Traceback" not in error, error
        return lines[-1]

    return run


@pytest.fixture(scope="session")
def killed_until_done() -> Callable[..., None]:
    """Start `vnc prepare ...` again and again, SIGKILL it at work after a random while, `kills` times; then let it
    finish."""

    def run(out: Path, arguments: list[object], kills: int, longest: float, **options: Any) -> None:
        rng, lock = random.Random(kills), out / ".prepare" / "lock"
        for _ in range(kills):
            before = lock.stat().st_mtime_ns if lock.exists() else 0
            child = start([*arguments, "--out", out], **options)
            while child.poll() is None and not (lock.exists() and lock.stat().st_mtime_ns > before):
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, longest))
            child.send_signal(signal.SIGKILL)
            _, error = child.communicate(timeout=60)
            assert child.returncode == -signal.SIGKILL, f"ended by itself: {error.decode()}"
        child = start([*arguments, "--out", out], **options)
        _, error = child.communicate(timeout=60)
        assert child.returncode == 0, error.decode()

    return run


def start(
    arguments: list[object], commit_bytes: int = 256_000_000, batch: int = 4_096, slow: float = 0.0, **variables: str
) -> subprocess.Popen[bytes]:
    """`vnc prepare ...` as a process of its own, which reads documents in such batches, commits after so many bytes
    and flushes so slowly (seconds)."""
    script = CHILD.format(commit_bytes=commit_bytes, batch=batch, slow=slow)
    return subprocess.Popen(
        [sys.executable, "-c", script, "prepare", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="session")
def start_prepare() -> Callable[..., subprocess.Popen[bytes]]:
    return start


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """contents(folder): every file in it, hidden ones too, by its path."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    return read


@pytest.fixture(scope="session")
def texts_of() -> Callable[[Path], list[str]]:
    """texts_of(folder): the documents of all its shards, in order."""

    def read(folder: Path) -> list[str]:
        return [text for path in sorted(folder.glob("*.parquet")) for text in pq.read_table(path)["text"].to_pylist()]

    return read


@pytest.fixture(scope="session")
def manifest_of() -> Callable[[Path], dict[str, Any]]:
    def read(folder: Path) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        return value

    return read
